package php

import (
	"slices"
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "Composer 2", Path: "srv/vendor/composer/installed.json", Text: `{"packages":[{"name":"symfony/console","version":"v5.4.0","version_normalized":"5.4.0.0","license":["MIT"]},{"name":"phpunit/phpunit","version":"9.0.0"},{"name":"x/meta","version":"1","type":"metapackage"}],"dev":true,"dev-package-names":["phpunit/phpunit"]}`, Show: "purl license", Want: "symfony/console v5.4.0 purl pkg:composer/symfony/console@v5.4.0 license MIT\nphpunit/phpunit 9.0.0 dev purl pkg:composer/phpunit/phpunit@9.0.0"},
	{Name: "Composer 1", Path: "vendor/composer/installed.json", Text: " [{\"name\":\"a/b\",\"version\":\"1.0\",\"license\":\"MIT\"}]", Show: "license", Want: "a/b 1.0 license MIT"},
	{Name: "lock", Path: "composer.lock", Text: `{"packages":[{"name":"a/b","version":"1.0"}],"packages-dev":[{"name":"c/d","version":"dev-main"}]}`, Want: "a/b 1.0\nc/d dev-main dev"},
	{Name: "another list", Path: "installed.json", Text: "{}", Want: languagetest.Unwanted},
	{Name: "damaged", Path: "vendor/composer/installed.json", Text: "{", Err: "installed packages"},
}

func TestAnalyzers(t *testing.T) {
	languagetest.Run(t, slices.Concat(Installed(), Declared()), cases)
}

func FuzzAnalyzers(f *testing.F) {
	languagetest.Fuzz(f, slices.Concat(Installed(), Declared()), cases)
}
