package java

import (
	"bufio"
	"bytes"
	"slices"
	"strings"

	"bulkhead/scan/language/unzip"
)

// coordinates are what Maven calls a library.
type coordinates struct{ group, artifact, version string }

func (c coordinates) name() string {
	if c.group == "" {
		return c.artifact
	}
	return c.group + ":" + c.artifact
}

// library is one whose coordinates an archive holds, and the entry that does.
type library struct {
	coordinates
	entry string
}

// describe adds what an archive says of itself. Maven puts the coordinates of every library into its jar, and there
// they stay when it is copied into another one ("shaded"): those that fit the file's name are the jar's own.
func (w *walk) describe(z *unzip.File, name, path string) {
	file := splitName(name)
	libraries := w.libraries(z, path)
	own := slices.IndexFunc(libraries, func(l library) bool { return fits(l.coordinates, file) })
	if own < 0 && len(libraries) == 1 && (file.version == "" || file.version == libraries[0].version) {
		own = 0 // a jar that was renamed
	}
	for i, l := range libraries {
		inner := path
		if i != own {
			inner = path + "!" + clean(l.entry)
		}
		w.add(l.coordinates, inner)
	}
	if own >= 0 {
		return
	}
	if c := guess(w.manifest(z, path), file); c.artifact != "" && c.version != "" && !contains(libraries, c) {
		w.add(c, path)
	}
}

// fits reports whether a file's name is that of a library. Eclipse writes the group before the artifact.
func fits(c, file coordinates) bool {
	return c.artifact == file.artifact || strings.HasSuffix(file.artifact, "."+c.artifact) ||
		strings.HasPrefix(file.artifact, c.artifact+"-") && (file.version == "" || file.version == c.version)
}

// contains reports whether the library itself is among those that were found, whatever its group.
func contains(all []library, c coordinates) bool {
	return slices.ContainsFunc(all, func(l library) bool { return l.artifact == c.artifact && l.version == c.version })
}

// libraries returns what Maven's properties say, and its models where there are no properties.
func (w *walk) libraries(z *unzip.File, path string) []library {
	var found []library
	seen := map[string]bool{}
	for _, suffix := range []string{string(properties), string(model)} {
		for _, e := range z.Entries {
			place, ok := strings.CutSuffix(e.Name, suffix)
			if !ok || seen[place] {
				continue
			}
			c, ok := w.coordinates(z, e, path)
			if ok {
				seen[place] = true
				found = append(found, library{c, e.Name})
			}
		}
	}
	return found
}

func (w *walk) coordinates(z *unzip.File, e unzip.Entry, path string) (coordinates, bool) {
	b, err := z.Read(e, maxManifest)
	if err != nil {
		w.omit(path, err)
		return coordinates{}, false
	}
	c := parseProperties(b)
	if strings.HasSuffix(e.Name, string(model)) {
		c = parseModel(b)
	}
	return c, c.artifact != "" && c.group != "" && c.version != "" && !strings.Contains(c.version, "${")
}

func (w *walk) manifest(z *unzip.File, path string) map[string]string {
	for _, e := range z.Entries {
		if e.Name != string(jarManifest) {
			continue
		}
		b, err := z.Read(e, maxManifest)
		if err != nil {
			w.omit(path, err)
			return nil
		}
		return parseManifest(b)
	}
	return nil
}

// parseProperties reads Maven's pom.properties: three keys without escapes.
func parseProperties(b []byte) coordinates {
	var c coordinates
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "groupId":
			c.group = value
		case "artifactId":
			c.artifact = value
		case "version":
			c.version = value
		}
	}
	return c
}

// maxAttribute is how long an attribute that is wanted may get, in bytes: longer ones are no names.
const maxAttribute = 2048

// parseManifest returns the main attributes of a MANIFEST.MF: lines of at most 72 bytes, continued after a space.
func parseManifest(b []byte) map[string]string {
	attributes := map[string]string{}
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxManifest+1)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" && len(attributes) > 0 {
			break // sections about single files follow
		}
		if more, ok := strings.CutPrefix(line, " "); ok {
			if wanted(last) && len(attributes[last]) < maxAttribute {
				attributes[last] += more
			}
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		last = strings.ToLower(key)
		if wanted(last) {
			attributes[last] = strings.TrimLeft(value, " ")
		}
	}
	return attributes
}

// wanted keeps the long lists of OSGi out.
func wanted(key string) bool {
	switch key {
	case "implementation-title", "implementation-version", "implementation-vendor-id", "bundle-symbolicname", "bundle-version",
		"automatic-module-name", "manifest-version", "extension-name", "plugin-version", "short-name", "group-id":
		return true
	}
	return false
}

// guess makes coordinates out of a manifest and the file's name, for jars that Maven did not build.
func guess(attributes map[string]string, file coordinates) coordinates {
	c := coordinates{artifact: file.artifact, version: version(attributes, file.version)}
	if attributes["implementation-title"] == "Apache Tomcat" {
		return tomcat(c)
	}
	if short := attributes["short-name"]; short != "" && attributes["plugin-version"] != "" { // a plug-in of Jenkins
		c = coordinates{artifact: short, version: attributes["plugin-version"]}
	} else if title := attributes["implementation-title"]; file.version == "" && identifier(title) {
		c.artifact = title
	}
	c.group = group(attributes, c)
	return c
}

// version prefers what the manifest says where the file's name has the same and a classifier after it.
func version(attributes map[string]string, file string) string {
	for _, key := range []string{"implementation-version", "bundle-version"} {
		v := attributes[key]
		if !identifier(v) || v[0] < '0' || v[0] > '9' {
			continue
		}
		if file == "" || strings.HasPrefix(file, v+"-") && !qualifier(file[len(v)+1:]) {
			return v
		}
	}
	return file
}

func group(attributes map[string]string, c coordinates) string {
	if g := knownGroup(c); g != "" {
		return g
	}
	for _, key := range []string{"group-id", "implementation-vendor-id"} {
		if g := attributes[key]; identifier(g) {
			return g
		}
	}
	for _, key := range []string{"bundle-symbolicname", "automatic-module-name"} {
		name, _, _ := strings.Cut(attributes[key], ";")
		for _, artifact := range []string{c.artifact, strings.ReplaceAll(c.artifact, "-", ".")} {
			if g, ok := strings.CutSuffix(name, "."+artifact); ok && identifier(g) {
				return g
			}
		}
	}
	return ""
}

// identifier tells what can be part of coordinates from titles for people and from variables nobody filled in.
func identifier(s string) bool {
	return s != "" && !strings.ContainsAny(s, " \t$:@{}()/,\"'")
}

// splitName takes a file's name apart: "guava-31.1-jre.jar" is guava, 31.1-jre.
func splitName(name string) coordinates {
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		name = name[:dot]
	}
	at := -1
	for i := 1; i < len(name)-1; i++ {
		separator := name[i] == '-' || name[i] == '_' && at < 0 && strings.Contains(name[:i], ".") // Eclipse: com.google.gson_2.8.9
		if !separator || name[i+1] < '0' || name[i+1] > '9' {
			continue
		}
		if at < 0 || !qualifiers(name[at+1:i]) {
			at = i
		}
	}
	if at < 0 {
		return coordinates{artifact: name}
	}
	return coordinates{artifact: name[:at], version: withoutClassifier(name[at+1:])}
}

// qualifiers reports whether what stands between two numbers in a name belongs to the version: "1.0-rc" in "1.0-rc-2",
// but not "1.2-api" in "log4j-1.2-api-2.17.1".
func qualifiers(s string) bool {
	parts := strings.Split(s, "-")
	return !slices.ContainsFunc(parts[1:], func(part string) bool { return !qualifier(part) })
}

// qualifier reports whether s is a part of versions, as "SNAPSHOT", "rc1" and "jre" are.
func qualifier(s string) bool {
	first, _, _ := strings.Cut(strings.ToLower(s), "-")
	word, _, _ := strings.Cut(strings.TrimRight(first, "0123456789."), ".")
	switch word {
	case "", "alpha", "beta", "rc", "cr", "m", "ga", "final", "sp", "snapshot", "jre", "android", "incubating", "pre", "preview",
		"b", "build", "rev", "r", "v", "jdk", "release", "redhat", "atlassian", "hadoop", "ea", "dev", "milestone", "jbossorg", "fuse":
		return true
	}
	return false
}

func withoutClassifier(version string) string {
	for _, classifier := range []string{
		"sources", "javadoc", "tests", "test", "all", "shaded", "uber", "jar-with-dependencies", "exec", "boot", "standalone",
		"linux-x86_64", "linux-aarch_64", "linux-x86_64-fedora", "osx-x86_64", "osx-aarch_64", "windows-x86_64", "natives", "bin", "runtime",
	} {
		if v, ok := strings.CutSuffix(version, "-"+classifier); ok {
			return v
		}
	}
	return version
}
