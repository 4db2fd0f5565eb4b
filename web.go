package bulkhead

import "time"

// WebMode says what the layer-7 firewall does with a workload's requests.
type WebMode string

// The modes of the layer-7 firewall.
const (
	WebOff    WebMode = "off"    // requests are not looked at
	WebLearn  WebMode = "learn"  // tell, and take what passes into the portrait
	WebDetect WebMode = "detect" // tell
	WebBlock  WebMode = "block"  // refuse attacks, and tell
)

// Valid reports whether m is one of the modes.
func (m WebMode) Valid() bool {
	return m == WebOff || m == WebLearn || m == WebDetect || m == WebBlock
}

// WebPlace says how requests come by the firewall.
type WebPlace string

// The places that a node can put the firewall into by itself.
const (
	PlaceInline WebPlace = "inline" // in the path of connections
	PlaceTap    WebPlace = "tap"    // beside it: packets are read, nothing is refused
)

// Valid reports whether p is one of the places.
func (p WebPlace) Valid() bool { return p == PlaceInline || p == PlaceTap }

// WebRules begins the rules of alerts about requests.
const WebRules = "web/"

// WebLater ends the id of an alert about what came of a body after its request had been sent on.
const WebLater = "-later"

// WebRequest is a request that the firewall told of.
type WebRequest struct {
	ID       string      `json:"id"` // that its client was shown
	Client   string      `json:"client"`
	Method   string      `json:"method"`
	Host     string      `json:"host"`
	Path     string      `json:"path"`     // without its query
	Endpoint string      `json:"endpoint"` // the path with its values replaced by what they are
	Place    WebPlace    `json:"place"`
	Mode     WebMode     `json:"mode"`
	Verdict  string      `json:"verdict"` // alert, block
	Score    int         `json:"score"`
	Reasons  []WebReason `json:"reasons"`
	Request  []byte      `json:"request,omitempty"` // as it came, without secrets
	Cut      bool        `json:"cut,omitempty"`     // not all of it is in Request
}

// WebReason is one thing that spoke against a request.
type WebReason struct {
	Rule    string `json:"rule"`
	Class   string `json:"class"`
	Score   int    `json:"score"`
	Place   string `json:"place,omitempty"` // query, form, header …
	Name    string `json:"name,omitempty"`  // of the parameter or header
	Message string `json:"message"`
}

// WebException takes a rule off some requests.
type WebException struct {
	ID   string    `json:"id"`
	Rule string    `json:"rule"`
	Path string    `json:"path"` // that requests' paths begin with; "{…}" is any one segment; empty: any
	Name string    `json:"name"` // of the parameter or header; empty: any
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// WebPatch demands something of a parameter: a hole in the application is closed before the application is.
type WebPatch struct {
	ID      string    `json:"id"`
	Method  string    `json:"method"`  // empty: any
	Path    string    `json:"path"`    // as [WebException.Path]
	Name    string    `json:"name"`    // of the parameter; empty: all of the request is refused
	Pattern string    `json:"pattern"` // a regular expression (RE2) for the whole value; empty: no value at all is let through
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// WebCause is the request that a process served when it did something.
type WebCause struct {
	ID        string    `json:"id"` // that a client would be shown, and the application is
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Endpoint  string    `json:"endpoint"`
	Place     string    `json:"place,omitempty"`     // of the parameter
	Parameter string    `json:"parameter,omitempty"` // empty: not known which
	Client    string    `json:"client"`
	Sure      Sureness  `json:"sure"`
	Why       string    `json:"why"`             // how it is known
	Others    int       `json:"others"`          // requests that may as well be it
	Patch     *WebPatch `json:"patch,omitempty"` // that would have refused it
}

// Sureness says how well a cause is known.
type Sureness string

// The degrees of sureness.
const (
	Certain  Sureness = "certain"  // what the process did has the request's words in it, and the process served it
	Likely   Sureness = "likely"   // the process served this request and no other
	Possible Sureness = "possible" // it is one of several
)
