package drill

import "strings"

// The matrices that cells belong to.
const (
	Containers = "containers" // MITRE ATT&CK for Containers, version 18
	Kubernetes = "kubernetes" // the threat matrix for Kubernetes
	Enterprise = "enterprise" // other techniques of ATT&CK that steps are about
)

// Technique is one cell of a matrix. Of several tactics it stands under the first.
type Technique struct{ ID, Name, Tactic, Matrix string }

// Techniques are all cells. Ids and names: ATT&CK is © The MITRE Corporation, reproduced and
// distributed with its permission (ATT&CK terms of use); the threat matrix is Microsoft's.
func Techniques() []Technique { return techniques[:] }

var techniques = [...]Technique{
	{"T1190", "Exploit Public-Facing Application", "initial-access", Containers},
	{"T1133", "External Remote Services", "initial-access", Containers},
	{"T1078", "Valid Accounts", "initial-access", Containers},
	{"T1078.001", "Default Accounts", "initial-access", Containers},
	{"T1078.003", "Local Accounts", "initial-access", Containers},
	{"T1059.013", "Container CLI/API", "execution", Containers},
	{"T1609", "Container Administration Command", "execution", Containers},
	{"T1610", "Deploy Container", "execution", Containers},
	{"T1053", "Scheduled Task/Job", "execution", Containers},
	{"T1053.007", "Container Orchestration Job", "execution", Containers},
	{"T1204", "User Execution", "execution", Containers},
	{"T1204.003", "Malicious Image", "execution", Containers},
	{"T1098", "Account Manipulation", "persistence", Containers},
	{"T1098.006", "Additional Container Cluster Roles", "persistence", Containers},
	{"T1136", "Create Account", "persistence", Containers},
	{"T1136.001", "Local Account", "persistence", Containers},
	{"T1543", "Create or Modify System Process", "persistence", Containers},
	{"T1543.005", "Container Service", "persistence", Containers},
	{"T1525", "Implant Internal Image", "persistence", Containers},
	{"T1611", "Escape to Host", "privilege-escalation", Containers},
	{"T1068", "Exploitation for Privilege Escalation", "privilege-escalation", Containers},
	{"T1036", "Masquerading", "defense-evasion", Containers},
	{"T1036.005", "Match Legitimate Resource Name or Location", "defense-evasion", Containers},
	{"T1036.010", "Masquerade Account Name", "defense-evasion", Containers},
	{"T1070", "Indicator Removal", "defense-evasion", Containers},
	{"T1550", "Use Alternate Authentication Material", "defense-evasion", Containers},
	{"T1550.001", "Application Access Token", "defense-evasion", Containers},
	{"T1562", "Impair Defenses", "defense-evasion", Containers},
	{"T1562.001", "Disable or Modify Tools", "defense-evasion", Containers},
	{"T1612", "Build Image on Host", "defense-evasion", Containers},
	{"T1110", "Brute Force", "credential-access", Containers},
	{"T1110.001", "Password Guessing", "credential-access", Containers},
	{"T1110.003", "Password Spraying", "credential-access", Containers},
	{"T1110.004", "Credential Stuffing", "credential-access", Containers},
	{"T1528", "Steal Application Access Token", "credential-access", Containers},
	{"T1552", "Unsecured Credentials", "credential-access", Containers},
	{"T1552.001", "Credentials In Files", "credential-access", Containers},
	{"T1552.007", "Container API", "credential-access", Containers},
	{"T1046", "Network Service Discovery", "discovery", Containers},
	{"T1069", "Permission Groups Discovery", "discovery", Containers},
	{"T1613", "Container and Resource Discovery", "discovery", Containers},
	{"T1485", "Data Destruction", "impact", Containers},
	{"T1490", "Inhibit System Recovery", "impact", Containers},
	{"T1496", "Resource Hijacking", "impact", Containers},
	{"T1496.001", "Compute Hijacking", "impact", Containers},
	{"T1496.002", "Bandwidth Hijacking", "impact", Containers},
	{"T1498", "Network Denial of Service", "impact", Containers},
	{"T1499", "Endpoint Denial of Service", "impact", Containers},

	{"MS-TA9001", "Using cloud credentials", "initial-access", Kubernetes},
	{"MS-TA9002", "Compromised image in registry", "initial-access", Kubernetes},
	{"MS-TA9003", "Kubeconfig file", "initial-access", Kubernetes},
	{"MS-TA9004", "Application vulnerability", "initial-access", Kubernetes},
	{"MS-TA9005", "Exposed sensitive interfaces", "initial-access", Kubernetes},
	{"MS-TA9006", "Exec into container", "execution", Kubernetes},
	{"MS-TA9007", "bash/cmd inside container", "execution", Kubernetes},
	{"MS-TA9008", "New container", "execution", Kubernetes},
	{"MS-TA9009", "Application exploit (RCE)", "execution", Kubernetes},
	{"MS-TA9010", "SSH server running inside container", "execution", Kubernetes},
	{"MS-TA9011", "Sidecar injection", "execution", Kubernetes},
	{"MS-TA9012", "Backdoor container", "persistence", Kubernetes},
	{"MS-TA9013", "Writable hostPath mount", "persistence", Kubernetes},
	{"MS-TA9014", "Kubernetes CronJob", "persistence", Kubernetes},
	{"MS-TA9015", "Malicious admission controller", "persistence", Kubernetes},
	{"MS-TA9016", "Container service account", "persistence", Kubernetes},
	{"MS-TA9017", "Static pods", "persistence", Kubernetes},
	{"MS-TA9018", "Privileged container", "privilege-escalation", Kubernetes},
	{"MS-TA9019", "Cluster-admin binding", "privilege-escalation", Kubernetes},
	{"MS-TA9020", "Access cloud resources", "privilege-escalation", Kubernetes},
	{"MS-TA9021", "Clear container logs", "defense-evasion", Kubernetes},
	{"MS-TA9022", "Delete K8S events", "defense-evasion", Kubernetes},
	{"MS-TA9023", "Pod / container name similarity", "defense-evasion", Kubernetes},
	{"MS-TA9024", "Connect from Proxy server", "defense-evasion", Kubernetes},
	{"MS-TA9025", "List K8S secrets", "credential-access", Kubernetes},
	{"MS-TA9026", "Mount service principal", "credential-access", Kubernetes},
	{"MS-TA9027", "Application credentials in configuration files", "credential-access", Kubernetes},
	{"MS-TA9028", "Access managed identity credentials", "credential-access", Kubernetes},
	{"MS-TA9029", "Access the K8S API server", "discovery", Kubernetes},
	{"MS-TA9030", "Access Kubelet API", "discovery", Kubernetes},
	{"MS-TA9031", "Network mapping", "discovery", Kubernetes},
	{"MS-TA9033", "Instance Metadata API", "discovery", Kubernetes},
	{"MS-TA9034", "Cluster internal networking", "lateral-movement", Kubernetes},
	{"MS-TA9035", "CoreDNS poisoning", "lateral-movement", Kubernetes},
	{"MS-TA9036", "ARP poisoning and IP spoofing", "lateral-movement", Kubernetes},
	{"MS-TA9037", "Images from a private registry", "collection", Kubernetes},
	{"MS-TA9041", "Collecting data from pod", "collection", Kubernetes},
	{"MS-TA9038", "Data destruction", "impact", Kubernetes},
	{"MS-TA9039", "Resource hijacking", "impact", Kubernetes},
	{"MS-TA9040", "Denial of service", "impact", Kubernetes},

	{"T1003.007", "Proc Filesystem", "credential-access", Enterprise},
	{"T1003.008", "/etc/passwd and /etc/shadow", "credential-access", Enterprise},
	{"T1005", "Data from Local System", "collection", Enterprise},
	{"T1014", "Rootkit", "defense-evasion", Enterprise},
	{"T1021.004", "SSH", "lateral-movement", Enterprise},
	{"T1027.004", "Compile After Delivery", "defense-evasion", Enterprise},
	{"T1037.004", "RC Scripts", "persistence", Enterprise},
	{"T1040", "Network Sniffing", "credential-access", Enterprise},
	{"T1048", "Exfiltration Over Alternative Protocol", "exfiltration", Enterprise},
	{"T1053.003", "Cron", "execution", Enterprise},
	{"T1055.008", "Ptrace System Calls", "privilege-escalation", Enterprise},
	{"T1055.009", "Proc Memory", "privilege-escalation", Enterprise},
	{"T1059.004", "Unix Shell", "execution", Enterprise},
	{"T1070.002", "Clear Linux or Mac System Logs", "defense-evasion", Enterprise},
	{"T1070.003", "Clear Command History", "defense-evasion", Enterprise},
	{"T1070.006", "Timestomp", "defense-evasion", Enterprise},
	{"T1071.001", "Web Protocols", "command-and-control", Enterprise},
	{"T1071.004", "DNS", "command-and-control", Enterprise},
	{"T1082", "System Information Discovery", "discovery", Enterprise},
	{"T1090", "Proxy", "command-and-control", Enterprise},
	{"T1098.004", "SSH Authorized Keys", "persistence", Enterprise},
	{"T1105", "Ingress Tool Transfer", "command-and-control", Enterprise},
	{"T1218", "System Binary Proxy Execution", "defense-evasion", Enterprise},
	{"T1486", "Data Encrypted for Impact", "impact", Enterprise},
	{"T1489", "Service Stop", "impact", Enterprise},
	{"T1505.003", "Web Shell", "persistence", Enterprise},
	{"T1543.002", "Systemd Service", "persistence", Enterprise},
	{"T1546.004", "Unix Shell Configuration Modification", "persistence", Enterprise},
	{"T1547.006", "Kernel Modules and Extensions", "persistence", Enterprise},
	{"T1548.001", "Setuid and Setgid", "privilege-escalation", Enterprise},
	{"T1548.003", "Sudo and Sudo Caching", "privilege-escalation", Enterprise},
	{"T1552.003", "Shell History", "credential-access", Enterprise},
	{"T1552.004", "Private Keys", "credential-access", Enterprise},
	{"T1552.005", "Cloud Instance Metadata API", "credential-access", Enterprise},
	{"T1560.001", "Archive via Utility", "collection", Enterprise},
	{"T1562.004", "Disable or Modify System Firewall", "defense-evasion", Enterprise},
	{"T1567.002", "Exfiltration to Cloud Storage", "exfiltration", Enterprise},
	{"T1570", "Lateral Tool Transfer", "lateral-movement", Enterprise},
	{"T1572", "Protocol Tunneling", "command-and-control", Enterprise},
	{"T1574.006", "Dynamic Linker Hijacking", "persistence", Enterprise},
	{"T1620", "Reflective Code Loading", "defense-evasion", Enterprise},
}

// named finds a technique by its id.
func named(id string) (Technique, bool) {
	for _, t := range techniques {
		if t.ID == id {
			return t, true
		}
	}
	return Technique{}, false
}

// within reports whether a technique is another, or a part of it: T1078.001 is within T1078.
func within(id, other string) bool { return id == other || strings.HasPrefix(id, other+".") }

// outOfReach says why no step can be made for a technique: nothing that runs on a node, and nothing
// that is asked of a cluster, is it.
var outOfReach = map[string]string{
	"MS-TA9024": "where a caller of the cluster's API really is, is not to be seen from a node; the API server's own log tells it",
}
