package linked

import (
	"debug/buildinfo"
	"errors"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Go returns the modules of a Go program: its own, those it was linked from, and the standard library as "stdlib" with
// the version of Go. A program without build information, in particular one that is not Go, has none.
func Go(r io.ReaderAt) (look.Facts, error) {
	info, err := buildinfo.Read(r)
	if err != nil {
		if errors.Is(err, errBudget) {
			return look.Facts{}, err
		}
		return look.Facts{}, nil
	}
	l := manifest.NewList("golang")
	addMain(l, info)
	for _, dep := range info.Deps {
		addModule(l, dep)
	}
	l.Add(manifest.Item{Name: "stdlib", Version: goVersion(info.GoVersion)})
	return l.Facts(), nil
}

// addModule adds a dependency, as what it was replaced with where it was.
func addModule(l *manifest.List, m *debug.Module) {
	item := manifest.Item{Name: m.Path, Version: m.Version}
	if r := m.Replace; r != nil {
		item.Version = r.Version
		if r.Version != "" && r.Version != "(devel)" { // else it is a folder: nobody knows which version that was
			item.Name = r.Path
		}
	}
	if item.Version == "" {
		item.Version = "(devel)"
	}
	l.Add(item)
}

func addMain(l *manifest.List, info *debug.BuildInfo) {
	if info.Main.Path == "" {
		return // built from files or outside of a module
	}
	item := manifest.Item{Name: info.Main.Path, Version: info.Main.Version}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if item.Version == "" || item.Version == "(devel)" {
		item.Version = linkedVersion(info.Main.Path, settings["-ldflags"])
	}
	if revision := settings["vcs.revision"]; revision != "" && item.Version == "(devel)" {
		item.Version = pseudoVersion(settings)
		item.Qualifiers = repository(info.Main.Path, settings["vcs"], revision)
	}
	l.Add(item)
}

// linkedVersion is the version that the linker was told to write into a variable such as main.version: what projects
// did before Go took it from the version control by itself.
func linkedVersion(path, flags string) string {
	fields := strings.Fields(flags)
	for i, field := range fields {
		assignment, joined := strings.CutPrefix(strings.Trim(field, `'"`), "-X=")
		if field == "-X" && i+1 < len(fields) {
			assignment, joined = strings.Trim(fields[i+1], `'"`), true
		}
		variable, value, ok := strings.Cut(assignment, "=")
		if !joined || !ok || !versionVariable(path, variable) {
			continue
		}
		if v := "v" + strings.TrimPrefix(value, "v"); semver.IsValid(v) && strings.Count(v, ".") >= 2 {
			return v
		}
	}
	return "(devel)"
}

// versionVariable tells a variable that holds the program's own version from that of something it uses.
func versionVariable(module, variable string) bool {
	dot := strings.LastIndexByte(variable, '.')
	if dot < 0 {
		return false
	}
	pkg, name := variable[:dot], strings.ToLower(variable[dot+1:])
	switch name {
	case "version", "gitversion", "buildversion", "appversion", "releaseversion", "ver":
	default:
		return false
	}
	return pkg == "main" || pkg == module || strings.HasPrefix(pkg, module+"/") || manifest.Base(pkg) == "version"
}

// pseudoVersion is how Go itself names a revision without a tag.
func pseudoVersion(settings map[string]string) string {
	at, err := time.Parse(time.RFC3339, settings["vcs.time"])
	revision := settings["vcs.revision"]
	if err != nil || len(revision) < 12 {
		return "(devel)"
	}
	version := module.PseudoVersion("", "", at, revision[:12])
	if settings["vcs.modified"] == "true" {
		version += "+dirty"
	}
	return version
}

// repository says where a revision is from, for modules whose name is that of a repository.
func repository(path, system, revision string) map[string]string {
	parts := strings.SplitN(path, "/", 4)
	if system != "git" || len(parts) < 3 || parts[0] != "github.com" && parts[0] != "gitlab.com" {
		return nil
	}
	return map[string]string{"vcs_url": "git+https://" + strings.Join(parts[:3], "/") + "@" + revision}
}

// goVersion turns "go1.22rc1 X:nocoverageredesign" into what the Go vulnerability database calls it, "1.22.0-rc.1". A
// development version has none.
func goVersion(says string) string {
	field, _, _ := strings.Cut(says, " ")
	version, ok := strings.CutPrefix(field, "go")
	if !ok {
		return "(devel)"
	}
	version, _, _ = strings.Cut(version, "-") // of a vendor: "1.21.3-google"
	version, _, _ = strings.Cut(version, "+") // of a vendor: "1.16.7+fips"
	for _, stage := range []string{"rc", "beta"} {
		if release, n, ok := strings.Cut(version, stage); ok {
			return release + ".0-" + stage + "." + n
		}
	}
	return version
}
