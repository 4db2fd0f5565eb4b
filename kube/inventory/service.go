package inventory

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Service is an address of the cluster's with a port, and who answers there.
type Service struct {
	Address  string
	Protocol string // tcp, udp, sctp
	Port     uint16
	Backends []string // "address:port", in order
}

// serviceLabel names the service of an endpoint slice.
const serviceLabel = "kubernetes.io/service-name"

func slimService(u *unstructured.Unstructured) map[string]any {
	addresses, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "clusterIPs")
	ports, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
	list := make([]any, 0, len(addresses))
	for _, a := range addresses {
		list = append(list, a)
	}
	return map[string]any{"spec": map[string]any{"clusterIPs": list, "ports": ports}}
}

func slimSlice(u *unstructured.Unstructured) map[string]any {
	return map[string]any{"endpoints": u.Object["endpoints"], "ports": u.Object["ports"]}
}

// backend is a port of a service, by its name.
type backend struct{ namespace, service, port string }

// services joins services with their endpoints. A headless one has no address of its own.
func services(list, endpointSlices []map[string]any) (out []Service) {
	behind := map[backend][]string{}
	for _, o := range endpointSlices {
		addSlice(behind, &unstructured.Unstructured{Object: o})
	}
	for _, o := range list {
		u := &unstructured.Unstructured{Object: o}
		addresses, _, _ := unstructured.NestedStringSlice(o, "spec", "clusterIPs")
		ports, _, _ := unstructured.NestedSlice(o, "spec", "ports")
		for _, address := range addresses {
			if _, err := netip.ParseAddr(address); err != nil {
				continue
			}
			for _, p := range ports {
				out = append(out, serviceOf(u, address, p, behind))
			}
		}
	}
	out = slices.DeleteFunc(out, func(s Service) bool { return s.Port == 0 })
	slices.SortFunc(out, func(a, b Service) int {
		return strings.Compare(a.Address+" "+a.Protocol+" "+portText(a.Port), b.Address+" "+b.Protocol+" "+portText(b.Port))
	})
	return out
}

func serviceOf(u *unstructured.Unstructured, address string, port any, behind map[backend][]string) Service {
	p, _ := port.(map[string]any)
	name, _ := p["name"].(string)
	s := Service{Address: address, Protocol: protocolOf(p), Port: number(p["port"])}
	for _, b := range behind[backend{u.GetNamespace(), u.GetName(), name}] {
		at, err := netip.ParseAddrPort(b)
		if err == nil && at.Addr().Is4() == netip.MustParseAddr(address).Is4() {
			s.Backends = append(s.Backends, b)
		}
	}
	slices.Sort(s.Backends)
	s.Backends = slices.Compact(s.Backends)
	return s
}

func addSlice(behind map[backend][]string, u *unstructured.Unstructured) {
	ports, _, _ := unstructured.NestedSlice(u.Object, "ports")
	endpoints, _, _ := unstructured.NestedSlice(u.Object, "endpoints")
	for _, port := range ports {
		p, _ := port.(map[string]any)
		name, _ := p["name"].(string)
		key := backend{u.GetNamespace(), u.GetLabels()[serviceLabel], name}
		for _, e := range endpoints {
			for _, a := range ready(e) {
				if addr, err := netip.ParseAddr(a); err == nil && number(p["port"]) != 0 {
					behind[key] = append(behind[key], netip.AddrPortFrom(addr.Unmap(), number(p["port"])).String())
				}
			}
		}
	}
}

// ready are an endpoint's addresses, where it takes connections: it does unless it says that it does not.
func ready(endpoint any) (addresses []string) {
	e, _ := endpoint.(map[string]any)
	if is, told, _ := unstructured.NestedBool(e, "conditions", "ready"); told && !is {
		return nil
	}
	addresses, _, _ = unstructured.NestedStringSlice(e, "addresses")
	return addresses
}

func protocolOf(port map[string]any) string {
	if p, _ := port["protocol"].(string); p != "" {
		return strings.ToLower(p)
	}
	return "tcp"
}

// number reads a port as JSON or an informer has it.
func number(v any) uint16 {
	switch n := v.(type) {
	case int64:
		if n > 0 && n < 65536 {
			return uint16(n)
		}
	case float64:
		if n > 0 && n < 65536 {
			return uint16(n)
		}
	}
	return 0
}

func portText(p uint16) string {
	return string([]byte{byte(p >> 8), byte(p)})
}
