package bulkhead

// Report is what a scan of one target found. Its JSON is a promise to scripts: fields may be added, and every list is
// present even when it is empty.
type Report struct {
	Target          string          `json:"target"`
	Digest          string          `json:"digest"` // of the image's manifest, "sha256:…"; empty for a directory or a package list
	OS              OS              `json:"os"`
	Layers          []LayerInfo     `json:"layers"` // from the base image upwards
	Packages        []Package       `json:"packages"`
	Vulnerabilities []Vulnerability `json:"vulnerabilities"`
	Findings        []Finding       `json:"findings"`
	Incomplete      []Omission      `json:"incomplete"` // what was left out, and why; not empty: the scan ends with exit code 1
	Database        *DatabaseInfo   `json:"database,omitempty"`
}

// OS is the distribution in an image, as its os-release names it.
type OS struct {
	ID       string `json:"id"`      // "debian", "alpine", "rhel"
	Version  string `json:"version"` // "12", "3.20.1"
	Name     string `json:"name,omitempty"`
	Codename string `json:"codename,omitempty"`
}

// LayerInfo is one layer of an image: who put a file there.
type LayerInfo struct {
	DiffID    string `json:"diffId"` // digest of the layer's uncompressed tar: the same in every registry and store
	Digest    string `json:"digest,omitempty"`
	CreatedBy string `json:"createdBy,omitempty"` // the step of the Dockerfile
	Base      bool   `json:"base,omitempty"`      // it belongs to the base image
}

// Package is an installed piece of software.
type Package struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"` // as its ecosystem writes it, with epoch and release
	Type     string   `json:"type"`    // of the purl: "deb", "apk", "rpm", "golang", "npm", "pypi", "maven", "gem", "composer", "cargo", "nuget", "generic"
	PURL     string   `json:"purl"`
	Path     string   `json:"path"`  // the file that says so
	Layer    string   `json:"layer"` // DiffID of the layer that brought this version
	Base     bool     `json:"base,omitempty"`
	Arch     string   `json:"arch,omitempty"`
	Source   *Source  `json:"source,omitempty"` // what it was built from, where that has another name or version
	Licenses []string `json:"licenses,omitempty"`
	Owner    string   `json:"owner,omitempty"`  // the distribution package whose files these are: that one's advisories hold
	Dev      bool     `json:"dev,omitempty"`    // only for development, as its lock file says
	Module   string   `json:"module,omitempty"` // of an rpm: its module stream, "nodejs:18"
}

// Source is the source package of a distribution package.
type Source struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Vulnerability is one known vulnerability of one package.
type Vulnerability struct {
	ID        string    `json:"id"`      // the CVE where there is one, else the advisory's own name
	Aliases   []string  `json:"aliases"` // all other names, advisories included
	Package   string    `json:"package"`
	Version   string    `json:"version"` // installed
	Fixed     string    `json:"fixed"`   // the first version without it; empty while there is none
	Status    string    `json:"status"`  // "fixed": Fixed says in which version; "open"; "wont-fix"; "unknown"
	Severity  Severity  `json:"severity"`
	CVSS      float64   `json:"cvss"` // base score, 0 to 10; 0 when unknown
	Vector    string    `json:"vector,omitempty"`
	KEV       bool      `json:"kev"`  // known to be exploited (CISA)
	EPSS      float64   `json:"epss"` // probability of exploitation in the next 30 days (FIRST), 0 to 1
	PURL      string    `json:"purl"`
	Type      string    `json:"type"`
	Path      string    `json:"path"`
	Layer     string    `json:"layer"`
	Base      bool      `json:"base,omitempty"`
	Title     string    `json:"title,omitempty"`
	Details   string    `json:"details,omitempty"`
	Published string    `json:"published,omitempty"` // RFC 3339
	Source    string    `json:"source,omitempty"`    // the feed: "Debian", "Go"
	URLs      []string  `json:"urls,omitempty"`
	VEX       *Judgment `json:"vex,omitempty"` // why it is not counted
}

// Judgment is somebody's statement that a vulnerability does not count here.
type Judgment struct {
	Status        string `json:"status"` // of VEX: "not_affected", "fixed", "under_investigation", "affected"; or "ignored"
	Justification string `json:"justification,omitempty"`
	Reason        string `json:"reason,omitempty"`
	By            string `json:"by,omitempty"` // the document
	Until         string `json:"until,omitempty"`
}

// FindingKind says what a finding is about.
type FindingKind string

// The kinds of findings.
const (
	FindingMalware   FindingKind = "malware"
	FindingWebShell  FindingKind = "webshell"
	FindingSecret    FindingKind = "secret"
	FindingMisconfig FindingKind = "misconfig"
	FindingEOL       FindingKind = "eol" // a distribution or runtime that gets no fixes any more
)

// Finding is something in an image that should not be there.
type Finding struct {
	Kind     FindingKind `json:"kind"`
	Rule     string      `json:"rule"`
	Severity Severity    `json:"severity"`
	Path     string      `json:"path"` // "archive.zip!inner.php" for what is inside an archive
	Line     int         `json:"line"` // from 1; 0 when it is about the whole file
	Message  string      `json:"message"`
	Layer    string      `json:"layer"`
	Base     bool        `json:"base,omitempty"`
	Evidence []Evidence  `json:"evidence,omitempty"` // which lines and why
	Score    float64     `json:"score,omitempty"`    // of a model: 0 to 1
}

// Evidence is one place in a file that led to a finding. A secret is masked in it.
type Evidence struct {
	Line int    `json:"line"`
	Text string `json:"text"`
	Why  string `json:"why"`
}

// Omission is a part of the target that was not looked at.
type Omission struct {
	Path    string `json:"path"`
	Layer   string `json:"layer,omitempty"`
	Message string `json:"message"`
}

// DatabaseInfo says which vulnerability database was used.
type DatabaseInfo struct {
	Built   string `json:"built"` // RFC 3339
	Records int    `json:"records"`
	Stale   bool   `json:"stale,omitempty"`
}
