package topology

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Risk is something about a flow or a workload that a person should look at.
type Risk struct {
	Kind     string            `json:"kind"`
	Workload string            `json:"workload"` // who does it, or to whom it may be done
	Edges    []bulkhead.Edge   `json:"edges"`
	Score    float64           `json:"score"` // 0 to 100
	Severity bulkhead.Severity `json:"severity"`
	Reasons  []string          `json:"reasons"`
}

// The kinds of risks.
const (
	RiskNew         = "new-edge"
	RiskNamespace   = "cross-namespace"
	RiskEnvironment = "cross-environment"
	RiskClearText   = "clear-text"
	RiskMetadata    = "metadata-service"
	RiskAPIServer   = "api-server"
	RiskNodePort    = "node-port"
	RiskScan        = "scan"
	RiskSweep       = "sweep"
	RiskBeacon      = "beacon"
	RiskVolume      = "unusual-volume"
	RiskTunnel      = "dns-tunnel"
	RiskVulnerable  = "exposed-vulnerable"
	RiskPath        = "attack-path"
)

// Assess looks for risks in a record; learned is an earlier window to compare with, or nil. The worst come first.
func Assess(r, learned *Record) []Risk {
	a := &assessor{record: r, book: r.Book()}
	if learned != nil {
		a.learn(learned)
	}
	for i := range r.Flows {
		a.edge(&r.Flows[i])
	}
	a.probes()
	a.exposed()
	a.paths()
	slices.SortStableFunc(a.found, func(x, y Risk) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), strings.Compare(x.Kind, y.Kind), strings.Compare(x.Workload, y.Workload))
	})
	return a.found
}

type assessor struct {
	record  *Record
	book    *Book
	learned map[bulkhead.Edge]*Flow
	talks   map[string]bool // workloads that the learned window has
	found   []Risk
}

func (a *assessor) learn(r *Record) {
	a.learned, a.talks = map[bulkhead.Edge]*Flow{}, map[string]bool{}
	for i := range r.Flows {
		f := &r.Flows[i]
		a.learned[f.Edge] = f
		for _, e := range []bulkhead.Endpoint{f.Source, f.Destination} {
			if e.Kind == bulkhead.EndWorkload {
				a.talks[e.Name] = true
			}
		}
	}
}

func (a *assessor) tell(kind, workload string, score float64, edges []bulkhead.Edge, reasons ...string) {
	score = math.Round(max(0, min(100, score)))
	a.found = append(a.found, Risk{kind, workload, edges, score, severityOf(score), reasons})
}

func severityOf(score float64) bulkhead.Severity {
	switch {
	case score >= 85:
		return bulkhead.Critical
	case score >= 65:
		return bulkhead.High
	case score >= 40:
		return bulkhead.Medium
	}
	return bulkhead.Low
}

// edge asks what one flow alone can tell.
func (a *assessor) edge(f *Flow) {
	who := actor(f)
	one := []bulkhead.Edge{f.Edge}
	for _, check := range []func(*Flow) (string, float64, []string){
		a.isNew, a.crosses, a.otherEnvironment, a.clearText, a.metadata, a.apiServer, a.nodePort, beacon, a.volume, tunnel,
	} {
		if kind, score, reasons := check(f); kind != "" {
			a.tell(kind, who, score, one, reasons...)
		}
	}
}

func actor(f *Flow) string {
	if f.Source.Kind == bulkhead.EndWorkload {
		return f.Source.Name
	}
	return f.Destination.Name
}

// isNew: the younger a workload is to the learned window, the less a new edge of it says.
func (a *assessor) isNew(f *Flow) (string, float64, []string) {
	if a.learned == nil || a.learned[f.Edge] != nil {
		return "", 0, nil
	}
	if who := actor(f); !a.talks[who] {
		return RiskNew, 15, []string{who + " itself is new: nothing was learned of it"}
	}
	score, reasons := 40.0, []string{"it was never seen in the learned window"}
	if f.Destination.Kind == bulkhead.EndWorld {
		score, reasons = 55, append(reasons, "it leaves the cluster")
	}
	if !answered(f) {
		score, reasons = score+10, append(reasons, "nobody answered")
	}
	return RiskNew, score, reasons
}

func (a *assessor) ends(f *Flow) (from, to *Workload, ok bool) {
	if f.Source.Kind != bulkhead.EndWorkload || f.Destination.Kind != bulkhead.EndWorkload {
		return nil, nil, false
	}
	return a.book.workloads[f.Source.Name], a.book.workloads[f.Destination.Name], true
}

func (a *assessor) crosses(f *Flow) (string, float64, []string) {
	from, to, ok := a.ends(f)
	if !ok || from.Namespace == to.Namespace || to.Namespace == "kube-system" && f.Port == 53 {
		return "", 0, nil
	}
	return RiskNamespace, 20, []string{fmt.Sprintf("it goes from namespace %q to %q", from.Namespace, to.Namespace)}
}

// environmentLabels say where a workload stands in its life.
var environmentLabels = []string{"environment", "env", "app.kubernetes.io/environment", "stage"}

// environments are words of names, as "shop-staging".
var environments = map[string]string{
	"prod": "production", "production": "production", "live": "production", "staging": "staging", "stage": "staging", "uat": "staging",
	"test": "test", "testing": "test", "qa": "test", "dev": "development", "development": "development", "sandbox": "development",
}

func (a *assessor) environment(w *Workload) string {
	for _, set := range []map[string]string{w.Labels, a.book.namespaceLabels(w.Namespace).known} {
		for _, key := range environmentLabels {
			if v := strings.ToLower(set[key]); v != "" {
				return cmp.Or(environments[v], v)
			}
		}
	}
	for _, word := range strings.FieldsFunc(w.Namespace, func(r rune) bool { return r == '-' || r == '_' || r == '.' }) {
		if e := environments[strings.ToLower(word)]; e != "" {
			return e
		}
	}
	return ""
}

func (a *assessor) otherEnvironment(f *Flow) (string, float64, []string) {
	from, to, ok := a.ends(f)
	if !ok {
		return "", 0, nil
	}
	x, y := a.environment(from), a.environment(to)
	if x == "" || y == "" || x == y {
		return "", 0, nil
	}
	score := 50.0
	if y == "production" {
		score = 70
	}
	return RiskEnvironment, score, []string{fmt.Sprintf("it goes from %s to %s", x, y)}
}

// openly are protocols that send what they are given as it is; those with passwords weigh more.
var openly = map[string]float64{
	"ftp": 65, "telnet": 80, "pop3": 60, "imap": 60, "smtp": 35, "ldap": 60, "redis": 40, "mysql": 30, "postgresql": 30, "mongodb": 40, "amqp": 40, "mqtt": 40,
	"memcached": 35, "http": 30, "kafka": 25, "vnc": 65, "rsh": 85,
}

// openPorts are used where the protocol was not recognised.
var openPorts = map[uint16]string{21: "ftp", 23: "telnet", 110: "pop3", 143: "imap", 389: "ldap", 514: "rsh", 5900: "vnc"}

func (a *assessor) clearText(f *Flow) (string, float64, []string) {
	name := cmp.Or(f.Application, openPorts[f.Port])
	score := openly[name]
	if score == 0 || f.Protocol != "tcp" || f.Source == f.Destination {
		return "", 0, nil
	}
	reasons := []string{name + " is not encrypted: who is on the way reads what is in it, passwords too"}
	if f.Application == "" {
		reasons[0] = fmt.Sprintf("by its port this is %s, which is not encrypted", name)
	}
	if f.Destination.Kind == bulkhead.EndWorld || f.Source.Kind == bulkhead.EndWorld {
		return RiskClearText, score + 25, append(reasons, "it crosses the border of the cluster")
	}
	return RiskClearText, score, reasons
}

// metadataServices give out a machine's credentials to whoever asks.
var metadataServices = []string{"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "100.100.100.200", "metadata.google.internal"}

func (a *assessor) metadata(f *Flow) (string, float64, []string) {
	if !contains(metadataServices, strings.TrimSuffix(strings.ToLower(f.Destination.Name), ".")) {
		return "", 0, nil
	}
	return RiskMetadata, 80, []string{f.Destination.Name + " is a cloud's metadata service: it gives the node's credentials to whoever asks"}
}

func (a *assessor) apiServer(f *Flow) (string, float64, []string) {
	if f.Source.Kind != bulkhead.EndWorkload || f.Protocol != "tcp" {
		return "", 0, nil
	}
	from := a.book.workloads[f.Source.Name]
	service := f.Destination.Kind == bulkhead.EndService && (f.Destination.Name == "10.96.0.1" || strings.HasPrefix(f.Destination.Name, "default/kubernetes"))
	if f.Port != 6443 && !service || from != nil && from.Namespace == "kube-system" {
		return "", 0, nil
	}
	return RiskAPIServer, 45, []string{"it talks to the Kubernetes API server: few applications need to"}
}

// sensitivePorts of a node are its own services'.
var sensitivePorts = map[uint16]string{22: "SSH", 2375: "the Docker API without TLS", 2376: "the Docker API", 2379: "etcd", 2380: "etcd", 10250: "the kubelet", 10255: "the kubelet's open port", 10257: "the controller manager", 10259: "the scheduler"}

func (a *assessor) nodePort(f *Flow) (string, float64, []string) {
	if f.Destination.Kind != bulkhead.EndHost || f.Source.Kind == bulkhead.EndHost {
		return "", 0, nil
	}
	if name := sensitivePorts[f.Port]; name != "" {
		return RiskNodePort, 75, []string{"it reaches " + name + " of node " + f.Destination.Name}
	}
	if f.Port >= 30000 && f.Port <= 32767 {
		return RiskNodePort, 30, []string{fmt.Sprintf("it uses node port %d of %s, past the policies of the service's namespace", f.Port, f.Destination.Name)}
	}
	return "", 0, nil
}

const (
	beaconCalls  = 8    // intervals at least: fewer are by chance alike
	beaconSpread = 0.15 // of the middle interval
)

// beacon looks for calls that come as a clock strikes: the spread of the intervals (median absolute deviation) is small beside
// their median, and the series of hours or minutes resembles itself moved by it.
func beacon(f *Flow) (string, float64, []string) {
	if f.Destination.Kind != bulkhead.EndWorld || len(f.History) <= beaconCalls {
		return "", 0, nil
	}
	var gaps []float64
	var opened uint64
	for i, m := range f.History {
		opened += m.Opened
		if i > 0 {
			gaps = append(gaps, m.At.Sub(f.History[i-1].At).Seconds())
		}
	}
	middle, spread := medianAndSpread(gaps)
	calls := float64(opened) / float64(len(f.History))
	if middle <= 0 || spread > beaconSpread*middle || calls > 4 || bytesOf(*f)/max(opened, 1) > 64<<10 {
		return "", 0, nil
	}
	likeness := autocorrelation(f.History, time.Duration(middle)*time.Second)
	if likeness < 0.5 {
		return "", 0, nil
	}
	return RiskBeacon, 45 + 35*likeness, []string{fmt.Sprintf("it calls every %s, %d times, the intervals differ by %.0f s; its series resembles itself so moved by %.2f of 1",
		time.Duration(middle)*time.Second, len(f.History), spread, likeness), "small calls to the world as by a clock are how implants ask for orders"}
}

// medianAndSpread is the median and the median absolute deviation, in the scale of a standard deviation.
func medianAndSpread(list []float64) (middle, spread float64) {
	if len(list) == 0 {
		return 0, 0
	}
	middle = median(list)
	away := make([]float64, len(list))
	for i, v := range list {
		away[i] = math.Abs(v - middle)
	}
	return middle, 1.4826 * median(away)
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// autocorrelation is the share of moments that have another one lag later, of those that could.
func autocorrelation(history []Moment, lag time.Duration) float64 {
	within := lag / 5
	last := history[len(history)-1].At
	could, have := 0, 0
	for _, m := range history {
		want := m.At.Add(lag)
		if want.After(last.Add(within)) {
			continue
		}
		could++
		i, _ := slices.BinarySearchFunc(history, want.Add(-within), func(m Moment, t time.Time) int { return m.At.Compare(t) })
		if i < len(history) && !history[i].At.After(want.Add(within)) {
			have++
		}
	}
	if could == 0 {
		return 0
	}
	return float64(have) / float64(could)
}

const (
	volumeHours = 12  // of history at least, to know what is usual
	volumeZ     = 6.0 // robust standard deviations
	ewmaWeight  = 0.2 // of the newest hour
)

// volume compares each hour's bytes, as logarithms, with what the edge usually has: the median and its spread say what is unusual
// (an outlier does not move them), an exponentially weighted mean follows a slow change, which is not told.
func (a *assessor) volume(f *Flow) (string, float64, []string) {
	history := f.History
	if was := a.learned[f.Edge]; was != nil {
		history = append(slices.Clone(was.History), f.History...)
	}
	if len(history) < volumeHours {
		return "", 0, nil
	}
	logs := make([]float64, len(history))
	for i, m := range history {
		logs[i] = math.Log2(float64(m.Bytes) + 1)
	}
	middle, spread := medianAndSpread(logs)
	spread = max(spread, 0.25) // hours that are all but alike: less than a fifth more is no news
	mean, worst, at := logs[0], 0.0, 0
	for i, v := range logs {
		if z := min((v-middle)/spread, (v-mean)/spread); z > worst && history[i].Bytes > 1<<20 {
			worst, at = z, i
		}
		mean += ewmaWeight * (v - mean)
	}
	if worst < volumeZ || history[at].At.Before(a.record.From) {
		return "", 0, nil
	}
	return RiskVolume, 35 + 3*worst, []string{fmt.Sprintf("%d bytes in the hour of %s, where %.0f are usual: %.1f robust standard deviations more",
		history[at].Bytes, history[at].At.UTC().Format(time.RFC3339), math.Exp2(middle)-1, worst)}
}

// tunnel: names that carry data are many, long, and their first part has the entropy of data.
func tunnel(f *Flow) (string, float64, []string) {
	q := f.Queries
	if q == nil || q.Names == 0 {
		return "", 0, nil
	}
	var entropy, length float64
	for _, name := range q.Examples {
		label, _, _ := strings.Cut(name, ".")
		entropy += entropyOf(label) / float64(len(q.Examples))
		length += float64(len(label)) / float64(len(q.Examples))
	}
	score, reasons := 0.0, []string{}
	for _, sign := range []struct {
		holds bool
		score float64
		text  string
	}{
		{entropy >= 3.5 && length >= 16, 35, fmt.Sprintf("the first parts of the names have %.1f bits a character, as data has", entropy)},
		{length >= 30 || q.Longest >= 120, 25, fmt.Sprintf("the names are long: %.0f characters before the first dot, the longest name %d", length, q.Longest)},
		{q.Names >= 200 && q.Names*2 >= q.Asked, 25, fmt.Sprintf("%d different names of %d questions: names that are asked once are not looked up, they are sent", q.Names, q.Asked)},
	} {
		if sign.holds {
			score, reasons = score+sign.score, append(reasons, sign.text)
		}
	}
	if len(reasons) < 2 {
		return "", 0, nil
	}
	return RiskTunnel, score + 10, reasons
}

func entropyOf(s string) (bits float64) {
	counts := map[rune]float64{}
	n := 0.0
	for _, r := range s {
		counts[r]++
		n++
	}
	for _, c := range counts {
		bits -= c / n * math.Log2(c/n)
	}
	return bits
}

const (
	scanPorts  = 10 // of one destination without an answer
	sweepHosts = 10 // destinations on one port without an answer
	onePacket  = 2
)

// probes finds who asks many doors and gets few answers.
func (a *assessor) probes() {
	type target struct {
		source string
		to     string
		port   uint16
	}
	scans, sweeps := map[target][]bulkhead.Edge{}, map[target][]bulkhead.Edge{}
	for i := range a.record.Flows {
		f := &a.record.Flows[i]
		if f.Source.Kind != bulkhead.EndWorkload || !unanswered(f) {
			continue
		}
		scan := target{source: f.Source.Name, to: f.Destination.String()}
		sweep := target{source: f.Source.Name, port: f.Port}
		scans[scan], sweeps[sweep] = append(scans[scan], f.Edge), append(sweeps[sweep], f.Edge)
	}
	for t, edges := range scans {
		if len(edges) >= scanPorts {
			a.tell(RiskScan, t.source, 60+float64(len(edges))/4, ordered(edges), fmt.Sprintf("%d ports of %s were tried and not one answered", len(edges), t.to))
		}
	}
	for t, edges := range sweeps {
		if len(edges) >= sweepHosts {
			a.tell(RiskSweep, t.source, 60+float64(len(edges))/4, ordered(edges), fmt.Sprintf("port %d was tried at %d destinations and not one answered", t.port, len(edges)))
		}
	}
}

func unanswered(f *Flow) bool {
	if f.Opened > 0 && f.Protocol == "tcp" {
		return f.Established == 0
	}
	return f.PacketsIn == 0 && f.PacketsOut <= onePacket*max(f.Opened, 1)
}

const maxEdges = 20 // of one risk

func ordered(edges []bulkhead.Edge) []bulkhead.Edge {
	slices.SortFunc(edges, func(x, y bulkhead.Edge) int { return strings.Compare(x.String(), y.String()) })
	return edges[:min(len(edges), maxEdges)]
}

// reached says which workloads the world talks to.
func (a *assessor) reached() map[string][]bulkhead.Edge {
	from := map[string][]bulkhead.Edge{}
	for i := range a.record.Flows {
		f := &a.record.Flows[i]
		if f.Source.Kind == bulkhead.EndWorld && f.Destination.Kind == bulkhead.EndWorkload && outsideAddress(f.Source.Name) {
			from[f.Destination.Name] = append(from[f.Destination.Name], f.Edge)
		}
	}
	for name, w := range a.book.workloads {
		if w.Exposed && from[name] == nil {
			from[name] = []bulkhead.Edge{}
		}
	}
	return from
}

func outsideAddress(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err != nil || !reserved(netip.PrefixFrom(ip.Unmap().WithZone(""), ip.Unmap().BitLen()))
}

// danger is how likely a workload's vulnerabilities are used, 0 to 1, and the worst of them.
func danger(w *Workload) (worst float64, id string) {
	for _, v := range w.Vulnerabilities {
		d := v.EPSS + 0.1*float64(v.Severity.Rank())
		if v.KEV {
			d = max(d, 0.9)
		}
		if d > worst || d == worst && v.ID < id {
			worst, id = min(d, 1), v.ID
		}
	}
	return worst, id
}

func (a *assessor) exposed() {
	for name, edges := range sorted(a.reached()) {
		w := a.book.workloads[name]
		d, id := danger(w)
		if d < 0.3 {
			continue
		}
		a.tell(RiskVulnerable, name, 50+50*d, ordered(edges), "the world talks to it", fmt.Sprintf("its image has %s, of %d vulnerabilities the one most likely used", id, len(w.Vulnerabilities)))
	}
}

// paths searches the shortest way from what the world talks to, to each sensitive workload, over edges that were seen.
func (a *assessor) paths() {
	came := map[string]*bulkhead.Edge{}
	var queue []string
	for name := range sorted(a.reached()) {
		came[name] = nil
		queue = append(queue, name)
	}
	next := map[string][]*Flow{}
	for i := range a.record.Flows {
		if f := &a.record.Flows[i]; f.Source.Kind == bulkhead.EndWorkload && f.Destination.Kind == bulkhead.EndWorkload && answered(f) {
			next[f.Source.Name] = append(next[f.Source.Name], f)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		for _, f := range next[name] {
			if _, been := came[f.Destination.Name]; !been {
				came[f.Destination.Name] = &f.Edge
				queue = append(queue, f.Destination.Name)
			}
		}
	}
	keeps := a.databases()
	for _, name := range a.book.names {
		if w := a.book.workloads[name]; w.Sensitive || keeps[name] {
			a.path(name, came)
		}
	}
}

// databases are sensitive without anybody saying so.
func (a *assessor) databases() map[string]bool {
	all := map[string]bool{}
	for i := range a.record.Flows {
		if f := &a.record.Flows[i]; contains([]string{"postgresql", "mysql", "mongodb", "redis"}, f.Application) {
			all[f.Destination.Name] = true
		}
	}
	return all
}

func (a *assessor) path(name string, came map[string]*bulkhead.Edge) {
	edge, reachable := came[name]
	if !reachable {
		return
	}
	var edges []bulkhead.Edge
	start := name
	for ; edge != nil; edge = came[start] {
		edges = append(edges, *edge)
		start = edge.Source.Name
	}
	slices.Reverse(edges)
	d, id := danger(a.book.workloads[start])
	score := 70 - 10*float64(len(edges)) + 40*d
	reasons := []string{fmt.Sprintf("from the world to %s in %d steps, by connections that are in use", name, len(edges)+1)}
	if id != "" {
		reasons = append(reasons, fmt.Sprintf("%s, where it begins, has %s", start, id))
	}
	a.tell(RiskPath, name, max(score, 25), edges, reasons...)
}
