package topology

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// maxRecord bounds what is read of a file: 50,000 edges with 30 days of hours have some 3 GiB only if all of them are busy in each
// hour; those of the cluster this is measured with have 400 MiB.
const maxRecord = 1 << 30

// ReadRecord reads what `bulkhead flows --format json` writes, or a bare list of flows. A window that is not written is that of
// the flows.
func ReadRecord(file string, from io.Reader) (*Record, error) {
	limited := &io.LimitedReader{R: from, N: maxRecord}
	d := json.NewDecoder(limited)
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		if limited.N <= 0 {
			err = fmt.Errorf("it is larger than %d MiB; export a shorter window", maxRecord>>20)
		}
		return nil, fmt.Errorf("reading flows of %s: %w", file, err)
	}
	r := &Record{}
	var err error
	if raw[0] == '[' {
		err = json.Unmarshal(raw, &r.Flows)
	} else {
		err = json.Unmarshal(raw, r)
	}
	if err != nil {
		return nil, fmt.Errorf("reading flows of %s: %w; it must be what `bulkhead flows --format json` writes", file, err)
	}
	return r, r.check(file)
}

func (r *Record) check(file string) error {
	for i, f := range r.Flows {
		if q, ok := parsePort(f.Protocol); !ok || q.From != 0 {
			return fmt.Errorf("reading flows of %s: flow %d has protocol %.40q; write tcp, udp, sctp, icmp, icmpv6 or IP's number", file, i+1, f.Protocol)
		}
		for _, e := range []bulkhead.Endpoint{f.Source, f.Destination} {
			if e.Kind != bulkhead.EndWorkload && e.Kind != bulkhead.EndHost && e.Kind != bulkhead.EndService && e.Kind != bulkhead.EndWorld {
				return fmt.Errorf("reading flows of %s: flow %d has an end of kind %.40q; write workload, host, service or world", file, i+1, e.Kind)
			}
		}
	}
	if r.From.IsZero() || r.To.IsZero() {
		r.span()
	}
	if r.To.Before(r.From) {
		return fmt.Errorf("reading flows of %s: the window ends before it begins", file)
	}
	return nil
}

// span makes the window that of the flows.
func (r *Record) span() {
	for i := range r.Flows {
		f := &r.Flows[i]
		if r.From.IsZero() || !f.First.IsZero() && f.First.Before(r.From) {
			r.From = f.First
		}
		if f.Last.After(r.To) {
			r.To = f.Last
		}
	}
}

// Add takes over what is known of workloads and namespaces from elsewhere; what is added wins.
func (r *Record) Add(more *Record) {
	at := map[string]int{}
	for i, w := range r.Workloads {
		at[w.Name] = i
	}
	for _, w := range more.Workloads {
		if i, have := at[w.Name]; have {
			r.Workloads[i] = w
			continue
		}
		at[w.Name] = len(r.Workloads)
		r.Workloads = append(r.Workloads, w)
	}
	r.Namespaces = append(r.Namespaces, more.Namespaces...)
	r.Hosts = append(r.Hosts, more.Hosts...)
}

// object of Kubernetes, as far as it matters here.
type kubernetesObject struct {
	Kind     string
	Items    []kubernetesObject
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
		OwnerReferences []struct {
			Kind, Name string
			Controller bool
		}
	}
	Spec struct {
		HostNetwork bool
		Containers  []struct {
			Name  string
			Ports []struct {
				Name          string
				ContainerPort uint16
				Protocol      string
			}
		}
	}
	Status struct {
		PodIPs    []struct{ IP string }
		Addresses []struct{ Type, Address string }
	}
}

const maxInventory = 256 << 20 // bytes: what kubectl writes for 10,000 pods

// ReadInventory reads what `kubectl get namespaces,nodes,pods -A -o json` writes: labels, addresses, names of ports.
func ReadInventory(file string, from io.Reader) (*Record, error) {
	limited := &io.LimitedReader{R: from, N: maxInventory}
	var list kubernetesObject
	if err := json.NewDecoder(limited).Decode(&list); err != nil {
		if limited.N <= 0 {
			err = errors.New("it is larger than 256 MiB; write one namespace at a time")
		}
		return nil, fmt.Errorf("reading the inventory %s: %w; it must be what `kubectl get namespaces,nodes,pods -A -o json` writes", file, err)
	}
	in := &inventory{at: map[string]int{}}
	for _, o := range append(list.Items, list) {
		in.add(&o)
	}
	if len(in.Workloads)+len(in.Namespaces) == 0 {
		return nil, fmt.Errorf("reading the inventory %s: there is no pod and no namespace in it", file)
	}
	return &in.Record, nil
}

type inventory struct {
	Record
	at map[string]int
}

func (in *inventory) add(o *kubernetesObject) {
	switch o.Kind {
	case "Namespace":
		in.Namespaces = append(in.Namespaces, Namespace{o.Metadata.Name, known(o.Metadata.Labels)})
	case "Node":
		h := Host{Name: o.Metadata.Name}
		for _, a := range o.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				h.Addresses = append(h.Addresses, ip.Unmap())
			}
		}
		in.Hosts = append(in.Hosts, h)
	case "Pod":
		if !o.Spec.HostNetwork { // NetworkPolicy does not know them, and their address is the node's
			in.pod(o)
		}
	}
}

func known(l map[string]string) map[string]string {
	if l == nil {
		return map[string]string{}
	}
	return l
}

// pod adds a pod to its workloads: one for each container, as the node names them.
func (in *inventory) pod(o *kubernetesObject) {
	kind, owner := o.owner()
	ports := []NamedPort{}
	for _, c := range o.Spec.Containers {
		for _, p := range c.Ports {
			ports = append(ports, NamedPort{p.Name, strings.ToLower(cmp.Or(p.Protocol, "tcp")), p.ContainerPort})
		}
	}
	for _, c := range o.Spec.Containers {
		w := in.workload(strings.Join([]string{o.Metadata.Namespace, kind, owner, c.Name}, "/"))
		w.Namespace, w.Labels, w.Ports = o.Metadata.Namespace, known(o.Metadata.Labels), ports
		for _, a := range o.Status.PodIPs {
			if ip, err := netip.ParseAddr(a.IP); err == nil {
				w.Addresses = append(w.Addresses, ip.Unmap())
			}
		}
	}
}

func (in *inventory) workload(name string) *Workload {
	i, have := in.at[name]
	if !have {
		i = len(in.Workloads)
		in.at[name] = i
		in.Workloads = append(in.Workloads, Workload{Name: name})
	}
	return &in.Workloads[i]
}

// owner is what a person deployed, as the node reads it from a pod's labels and name.
func (o *kubernetesObject) owner() (kind, name string) {
	for _, r := range o.Metadata.OwnerReferences {
		if !r.Controller {
			continue
		}
		switch r.Kind {
		case "ReplicaSet":
			if hash := o.Metadata.Labels["pod-template-hash"]; hash != "" {
				return "deployment", strings.TrimSuffix(r.Name, "-"+hash)
			}
		case "StatefulSet", "DaemonSet":
			return strings.ToLower(r.Kind), r.Name
		case "Job":
			return "job", withoutMinute(r.Name)
		}
	}
	return "pod", o.Metadata.Name
}

// withoutMinute cuts what a cron job puts behind its name.
func withoutMinute(job string) string {
	i := strings.LastIndexByte(job, '-')
	if i > 0 && len(job)-i > 8 && strings.Trim(job[i+1:], "0123456789") == "" {
		return job[:i]
	}
	return job
}

// Within cuts a record to a window; a zero time leaves that end. Flows whose history is known are counted again from
// what of it is inside; of the others those go that were not seen in it.
func (r *Record) Within(from, to time.Time) {
	if from.IsZero() && to.IsZero() {
		return
	}
	if from.After(r.From) {
		r.From = from
	}
	if !to.IsZero() && to.Before(r.To) {
		r.To = to
	}
	kept := r.Flows[:0]
	for _, f := range r.Flows {
		if f.within(r.From, r.To) {
			kept = append(kept, f)
		}
	}
	r.Flows = kept
}

func (f *Flow) within(from, to time.Time) bool {
	if len(f.History) == 0 {
		return !f.Last.Before(from) && !f.First.After(to)
	}
	f.History = slices.DeleteFunc(f.History, func(m Moment) bool { return m.At.Before(from) || m.At.After(to) })
	f.Opened = 0
	for _, m := range f.History {
		f.Opened += m.Opened
	}
	return len(f.History) > 0
}
