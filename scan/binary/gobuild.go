package binary

import (
	"debug/buildinfo"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"bulkhead/image"
	"bulkhead/scan/look"
)

// linked is how a version is given to Go's linker: -X path/to.Version=1.2.3. The variable has one of the usual names,
// so that the version of something else (a Go release, a plugin) is not taken.
var linked = regexp.MustCompile(`-X[ =]['"]?[\w./~-]+\.(?i:version|gitversion|gitdescribe|gittag|buildversion|appversion|releaseversion|fullversion|semver|tag)=['"]?v?(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)[.\d]*)?)`)

// lookGo tells the version of a program whose main module has none, because it was built in its own source tree: then
// package lists know the program without a version, and only the linker's flags tell it.
func lookGo(x index, f *image.File) (look.Facts, error) {
	r, err := f.ReaderAt()
	if err != nil {
		return look.Facts{}, err
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return look.Facts{}, nil // a program of the same name that is not written in Go
	}
	if v := info.Main.Version; semver.IsValid(v) && !module.IsPseudoVersion(v) {
		return look.Facts{}, nil // told as a Go module, whose advisories say more
	}
	for _, p := range x.find(f) {
		if !sameModule(info.Main.Path, p.module) {
			continue
		}
		for _, s := range info.Settings {
			if m := linked.FindStringSubmatch(s.Value); s.Key == "-ldflags" && m != nil {
				return facts(p, m[1]), nil
			}
		}
	}
	return look.Facts{}, nil
}

// sameModule compares without the major version at the end: "/v3". Repositories with several modules have the program
// in one below their root: "go.etcd.io/etcd/server/v3".
func sameModule(path, wanted string) bool {
	return path == wanted || strings.HasPrefix(path, wanted+"/")
}
