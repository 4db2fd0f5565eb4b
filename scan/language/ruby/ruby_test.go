package ruby

import (
	"slices"
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "gem", Path: "usr/local/bundle/specifications/nokogiri-1.16.0-x86_64-linux.gemspec", Text: `# -*- encoding: utf-8 -*-
# stub: nokogiri 1.16.0 x86_64-linux lib

Gem::Specification.new do |s|
  s.name = "nokogiri".freeze
  s.version = "1.16.0".freeze
  s.platform = "x86_64-linux".freeze
  s.authors = ["A = B".freeze]
  s.licenses = ["MIT".freeze, "Ruby"]
  s.installed_by_version = "3.4.1".freeze if s.respond_to? :installed_by_version
  s.add_runtime_dependency(%q<racc>.freeze, ["~> 1.4".freeze])
end
`, Show: "purl license", Want: "nokogiri 1.16.0 purl pkg:gem/nokogiri@1.16.0?platform=x86_64-linux license MIT, Ruby"},
	{Name: "gem of Ruby itself", Path: "usr/lib/ruby/gems/3.2.0/specifications/default/json-2.6.3.gemspec", Text: "Gem::Specification.new do |s|\n  s.name = 'json'\n  s.version = '2.6.3'\nend\n", Want: "json 2.6.3"},
	{Name: "sources of a gem", Path: "gems/x-1.0/x.gemspec", Text: "s.name = 'x'\ns.version = '1'\n", Want: languagetest.Unwanted},
	{Name: "version that is computed", Path: "specifications/x.gemspec", Text: "s.name = 'x'\ns.version = X::VERSION\n"},
	{Name: "lock", Path: "Gemfile.lock", Text: `GIT
  remote: https://github.com/x/y.git
  revision: 0123
  specs:
    y (1.0)

PATH
  remote: .
  specs:
    own (0.1)

GEM
  remote: https://rubygems.org/
  specs:
    nokogiri (1.16.0)
      racc (~> 1.4)
    nokogiri (1.16.0-x86_64-linux)
      racc (~> 1.4)
    racc (1.7.3)

PLATFORMS
  ruby

DEPENDENCIES
    racc (9)

BUNDLED WITH
   2.5.3
`, Show: "purl", Want: "y 1.0 purl pkg:gem/y@1.0\nnokogiri 1.16.0 purl pkg:gem/nokogiri@1.16.0\nnokogiri 1.16.0 purl pkg:gem/nokogiri@1.16.0?platform=x86_64-linux\nracc 1.7.3 purl pkg:gem/racc@1.7.3"},
}

func TestAnalyzers(t *testing.T) {
	languagetest.Run(t, slices.Concat(Installed(), Declared()), cases)
}

func FuzzAnalyzers(f *testing.F) {
	languagetest.Fuzz(f, slices.Concat(Installed(), Declared()), cases)
}
