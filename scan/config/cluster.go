package config

import (
	"slices"
	"strings"
)

// Checks of objects that run nothing: rights, ways in, names.

const (
	roles    = "Role ClusterRole"
	bindings = "RoleBinding ClusterRoleBinding"
)

func accessChecks() []manifestCheck {
	return []manifestCheck{
		onObject("BH-K060", critical, "A role may do everything", "name the verbs and resources that are needed", roles, rules(func(r rbac) bool { return r.verb("*") && r.resource("*") })),
		onObject("BH-K061", high, "A role names all verbs or all resources", "name those that are needed", roles, rules(func(r rbac) bool {
			return (r.verb("*") || r.resource("*")) && !(r.verb("*") && r.resource("*")) && !r.nonResource
		})),
		onObject("BH-K062", high, "A role reads all secrets of its namespace or of the cluster", "name single secrets (resourceNames), or mount them", roles, rules(func(r rbac) bool { return r.resource("secrets") && r.anyVerb("get", "list", "watch") && !r.named })),
		onObject("BH-K063", critical, "A role may give itself more rights", "remove the verbs escalate, bind and impersonate", roles, rules(func(r rbac) bool { return r.anyVerb("escalate", "bind", "impersonate") })),
		onObject("BH-K064", high, "A role may run commands in others' pods", "remove pods/exec and pods/attach", roles, rules(func(r rbac) bool {
			return (r.resource("pods/exec") || r.resource("pods/attach") || r.resource("pods/ephemeralcontainers")) && r.anyVerb("create", "get", "update", "patch", "*")
		})),
		onObject("BH-K065", medium, "A role may start pods, and so use every service account and secret of the namespace", "let it be done by a controller with its own admission rules", roles, rules(func(r rbac) bool {
			return r.anyResource("pods", "deployments", "daemonsets", "statefulsets", "replicasets", "jobs", "cronjobs") && r.anyVerb("create", "update", "patch")
		})),
		onObject("BH-K066", high, "A role reaches the nodes' agents directly, past admission and audit", "remove nodes/proxy", roles, rules(func(r rbac) bool { return r.resource("nodes/proxy") })),
		onObject("BH-K067", high, "A role may make tokens of service accounts", "remove create on serviceaccounts/token", roles, rules(func(r rbac) bool { return r.resource("serviceaccounts/token") && r.anyVerb("create", "*") })),
		onObject("BH-K068", high, "A role may change what decides about all objects, or sign certificates", "remove the rights on webhook configurations and certificatesigningrequests/approval", roles, rules(func(r rbac) bool {
			return r.anyResource("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies", "certificatesigningrequests/approval") && r.anyVerb("create", "update", "patch", "approve", "*")
		})),
		onObject("BH-K069", medium, "A role may make volumes of the node's directories", "remove create on persistentvolumes", roles, rules(func(r rbac) bool { return r.resource("persistentvolumes") && r.anyVerb("create", "*") })),
		onObject("BH-K070", critical, "Somebody becomes administrator of the cluster", "bind a role with the rights that are needed", bindings, func(o *object) []hit {
			v := o.at("roleRef", "name")
			return is(v, v.text() == "cluster-admin", "")
		}),
		onObject("BH-K071", critical, "Rights are given to everybody who reaches the API", "bind named users or service accounts", bindings, subjects(func(s value) bool {
			return slices.Contains([]string{"system:anonymous", "system:unauthenticated", "system:authenticated"}, s.at("name").text())
		})),
		onObject("BH-K072", high, "Rights are given to a default service account, which all pods of the namespace share", "make a service account for the workload", bindings, subjects(func(s value) bool {
			return s.at("kind").text() == "ServiceAccount" && s.at("name").text() == "default"
		})),
		onObject("BH-K073", critical, "The group system:masters is used, which no rule can limit", "bind a named role", bindings, subjects(func(s value) bool { return s.at("name").text() == "system:masters" })),
		onObject("BH-K074", high, "Rights are given to all service accounts", "bind the one that needs them", bindings, subjects(func(s value) bool {
			return strings.HasPrefix(s.at("name").text(), "system:serviceaccounts")
		})),
		onObject("BH-K075", low, "A service account gives its token to all its pods", "set automountServiceAccountToken: false, and true for the pods that need it", "ServiceAccount", func(o *object) []hit {
			v := o.at("automountServiceAccountToken")
			return is(v, v.isTrue(), "")
		}),
	}
}

// rbac is one rule of a role.
type rbac struct {
	verbs, resources   []string
	named, nonResource bool
}

func (r rbac) verb(v string) bool { return slices.Contains(r.verbs, v) }

func (r rbac) anyVerb(verbs ...string) bool { return slices.ContainsFunc(verbs, r.verb) }

func (r rbac) resource(name string) bool { return slices.Contains(r.resources, name) }

func (r rbac) anyResource(names ...string) bool { return slices.ContainsFunc(names, r.resource) }

func rules(bad func(rbac) bool) func(*object) []hit {
	return func(o *object) []hit {
		var hits []hit
		for _, v := range o.at("rules").items() {
			r := rbac{v.at("verbs").texts(), v.at("resources").texts(), len(v.at("resourceNames").items()) > 0, v.at("nonResourceURLs").exists()}
			detail := strings.Join(r.verbs, " ") + " on " + strings.Join(r.resources, " ")
			hits = append(hits, is(v, bad(r), detail)...)
		}
		return hits
	}
}

func subjects(bad func(value) bool) func(*object) []hit {
	return func(o *object) []hit {
		var hits []hit
		for _, s := range o.at("subjects").items() {
			hits = append(hits, is(s, bad(s), s.at("kind").text()+" "+s.at("name").text())...)
		}
		return hits
	}
}

func networkChecks() []manifestCheck {
	return []manifestCheck{
		onObject("BH-K080", medium, "A load balancer takes connections from everywhere", "set loadBalancerSourceRanges, or make it internal", "Service", func(o *object) []hit {
			v := o.at("spec", "type")
			return is(v, v.text() == "LoadBalancer" && !o.at("spec", "loadBalancerSourceRanges").exists() && !internalBalancer(o), "")
		}),
		onObject("BH-K081", low, "A port is open on every node", "use ClusterIP and an Ingress", "Service", func(o *object) []hit {
			v := o.at("spec", "type")
			return is(v, v.text() == "NodePort", "")
		}),
		onObject("BH-K082", medium, "A service takes over addresses of others (CVE-2020-8554)", "remove externalIPs", "Service", func(o *object) []hit {
			v := o.at("spec", "externalIPs")
			return is(v, len(v.items()) > 0, strings.Join(v.texts(), " "))
		}),
		onObject("BH-K083", medium, "An ingress has no TLS", "add spec.tls", "Ingress", func(o *object) []hit {
			return missing(o.at("spec").line(), !o.at("spec", "tls").exists())
		}),
		onObject("BH-K084", high, "An ingress writes lines of its own into the proxy's configuration", "remove the snippet annotations", "Ingress", func(o *object) []hit {
			var hits []hit
			for _, p := range o.at("metadata", "annotations").pairs() {
				hits = append(hits, is(p.value, strings.HasSuffix(p.key, "-snippet"), p.key)...)
			}
			return hits
		}),
		onObject("BH-K085", low, "An ingress takes all host names", "name the hosts", "Ingress", func(o *object) []hit {
			var hits []hit
			for _, r := range o.at("spec", "rules").items() {
				host := r.at("host").text()
				hits = append(hits, is(r, host == "" || host == "*", "")...)
			}
			return hits
		}),
		onObject("BH-K086", medium, "A network policy lets everybody in", "name from and ports", "NetworkPolicy", openPolicy("ingress", "from")),
		onObject("BH-K087", low, "A network policy lets everything out", "name to and ports", "NetworkPolicy", openPolicy("egress", "to")),
		onObject("BH-K088", medium, "A service offers a port for administrators outside the cluster", "use ClusterIP, and kubectl port-forward", "Service", func(o *object) []hit {
			if kind := o.at("spec", "type").text(); kind != "LoadBalancer" && kind != "NodePort" {
				return nil
			}
			var hits []hit
			for _, p := range o.at("spec", "ports").items() {
				_, bad := administration[p.at("port").text()]
				hits = append(hits, is(p, bad, p.at("port").text())...)
			}
			return hits
		}),
	}
}

func internalBalancer(o *object) bool {
	for _, p := range o.at("metadata", "annotations").pairs() {
		if strings.Contains(p.key, "internal") || strings.Contains(p.key, "load-balancer-type") && strings.EqualFold(p.value.text(), "internal") {
			return true
		}
	}
	return false
}

func openPolicy(direction, peers string) func(*object) []hit {
	return func(o *object) []hit {
		var hits []hit
		for _, r := range o.at("spec", direction).items() {
			hits = append(hits, is(r, !r.at(peers).exists() && !r.at("ports").exists(), "")...)
			for _, p := range r.at(peers).items() {
				cidr := p.at("ipBlock", "cidr")
				hits = append(hits, is(cidr, (cidr.text() == "0.0.0.0/0" || cidr.text() == "::/0") && !p.at("ipBlock", "except").exists() && !r.at("ports").exists(), cidr.text())...)
			}
		}
		return hits
	}
}

func otherChecks() []manifestCheck {
	return []manifestCheck{
		onObject("BH-K100", medium, "A Secret's values are in the manifest; base64 hides nothing", "keep it out of version control: a sealed secret, an external store, or kubectl create secret", "Secret", func(o *object) []hit {
			for _, name := range []string{"data", "stringData"} {
				if v := o.at(name); len(v.pairs()) > 0 && o.at("type").text() != "bootstrap.kubernetes.io/token" {
					return []hit{{v.line(), ""}}
				}
			}
			return nil
		}),
		onObject("BH-K101", high, "A ConfigMap has a secret in it", "put it into a Secret", "ConfigMap", func(o *object) []hit {
			var hits []hit
			for _, p := range o.at("data").pairs() {
				hits = append(hits, is(p.value, secretName.MatchString(p.key) && isValue(p.value.text()), p.key)...)
			}
			return hits
		}),
		onObject("BH-K102", medium, "Objects pass when the webhook that judges them does not answer", "set failurePolicy: Fail", "ValidatingWebhookConfiguration MutatingWebhookConfiguration", func(o *object) []hit {
			var hits []hit
			for _, w := range o.at("webhooks").items() {
				v := w.at("failurePolicy")
				hits = append(hits, is(v, v.text() == "Ignore", w.at("name").text())...)
			}
			return hits
		}),
		onObject("BH-K103", low, "A namespace does not say which pods it refuses", "add the label pod-security.kubernetes.io/enforce: restricted or baseline", "Namespace", func(o *object) []hit {
			return missing(o.at("metadata").line(), !o.at("metadata", "labels", "pod-security.kubernetes.io/enforce").exists())
		}),
		onObject("BH-K104", medium, "A namespace takes privileged pods", "use enforce: restricted or baseline", "Namespace", func(o *object) []hit {
			v := o.at("metadata", "labels", "pod-security.kubernetes.io/enforce")
			return is(v, v.text() == "privileged", "")
		}),
		onObject("BH-K105", low, "PodSecurityPolicy is gone since Kubernetes 1.25 and protects nothing", "use pod security labels or an admission policy", "PodSecurityPolicy", func(o *object) []hit {
			return missing(o.line(), true)
		}),
		onObject("BH-K106", medium, "A volume is a directory of the node", "use a storage class", "PersistentVolume", func(o *object) []hit {
			v := o.at("spec", "hostPath", "path")
			return is(v, v.exists(), v.text())
		}),
		onObject("BH-K107", high, "A part of the API is reached without verifying its certificate", "set caBundle and remove insecureSkipTLSVerify", "APIService", func(o *object) []hit {
			v := o.at("spec", "insecureSkipTLSVerify")
			return is(v, v.isTrue(), "")
		}),
		onObject("BH-K108", medium, "A custom resource is converted by a webhook that answers from outside the cluster", "use clientConfig.service", "CustomResourceDefinition", func(o *object) []hit {
			v := o.at("spec", "conversion", "webhook", "clientConfig", "url")
			return is(v, v.exists(), v.text())
		}),
	}
}
