package profile

import (
	"path"
	"strings"
)

// interpreters read programs from files that are not executed themselves. Names are compared without a trailing
// version: "python3.11" is "python".
var interpreters = map[string]bool{
	"sh": true, "bash": true, "dash": true, "ash": true, "zsh": true, "ksh": true, "mksh": true, "fish": true, "busybox": true, "toybox": true,
	"python": true, "perl": true, "ruby": true, "php": true, "php-fpm": true, "php-cgi": true, "node": true, "nodejs": true, "deno": true, "bun": true,
	"lua": true, "luajit": true, "awk": true, "gawk": true, "mawk": true, "tclsh": true, "wish": true, "guile": true, "Rscript": true,
	"apache": true, "httpd": true, "pwsh": true,
}

// Interpreter reports whether a program reads its instructions from files.
func Interpreter(exe string) bool {
	name := path.Base(exe)
	return interpreters[name] || interpreters[strings.TrimRight(name, "0123456789.")]
}
