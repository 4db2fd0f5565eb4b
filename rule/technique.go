package rule

import "bulkhead"

// Tactics are those of MITRE ATT&CK that rules can name, in the order of an attack.
var Tactics = []string{
	"initial-access", "execution", "persistence", "privilege-escalation", "defense-evasion", "credential-access",
	"discovery", "lateral-movement", "collection", "command-and-control", "exfiltration", "impact",
}

type technique struct {
	name    string
	tactics []string
}

// techniques are those that the default rules name: all of ATT&CK for Containers (version 18)
// that a kernel can see, and the Enterprise techniques for Linux that go further into detail.
// Ids and names: © The MITRE Corporation, reproduced and distributed with its permission
// (ATT&CK terms of use). TestTechniques compares them with the rules.
var techniques = map[string]technique{
	"T1003":     {"OS Credential Dumping", []string{"credential-access"}},
	"T1003.007": {"Proc Filesystem", []string{"credential-access"}},
	"T1003.008": {"/etc/passwd and /etc/shadow", []string{"credential-access"}},
	"T1005":     {"Data from Local System", []string{"collection"}},
	"T1014":     {"Rootkit", []string{"defense-evasion"}},
	"T1021.004": {"SSH", []string{"lateral-movement"}},
	"T1027.004": {"Compile After Delivery", []string{"defense-evasion"}},
	"T1036.005": {"Match Legitimate Resource Name or Location", []string{"defense-evasion"}},
	"T1037.004": {"RC Scripts", []string{"persistence", "privilege-escalation"}},
	"T1040":     {"Network Sniffing", []string{"credential-access", "discovery"}},
	"T1046":     {"Network Service Discovery", []string{"discovery"}},
	"T1048":     {"Exfiltration Over Alternative Protocol", []string{"exfiltration"}},
	"T1053.003": {"Cron", []string{"execution", "persistence", "privilege-escalation"}},
	"T1055.008": {"Ptrace System Calls", []string{"defense-evasion", "privilege-escalation"}},
	"T1055.009": {"Proc Memory", []string{"defense-evasion", "privilege-escalation"}},
	"T1059":     {"Command and Scripting Interpreter", []string{"execution"}},
	"T1059.004": {"Unix Shell", []string{"execution"}},
	"T1059.013": {"Container CLI/API", []string{"execution"}},
	"T1068":     {"Exploitation for Privilege Escalation", []string{"privilege-escalation"}},
	"T1070.002": {"Clear Linux or Mac System Logs", []string{"defense-evasion"}},
	"T1070.003": {"Clear Command History", []string{"defense-evasion"}},
	"T1070.006": {"Timestomp", []string{"defense-evasion"}},
	"T1071.004": {"DNS", []string{"command-and-control"}},
	"T1078":     {"Valid Accounts", []string{"initial-access", "persistence", "privilege-escalation", "defense-evasion"}},
	"T1082":     {"System Information Discovery", []string{"discovery"}},
	"T1090":     {"Proxy", []string{"command-and-control"}},
	"T1098.004": {"SSH Authorized Keys", []string{"persistence", "privilege-escalation"}},
	"T1098.006": {"Additional Container Cluster Roles", []string{"persistence", "privilege-escalation"}},
	"T1105":     {"Ingress Tool Transfer", []string{"command-and-control"}},
	"T1110":     {"Brute Force", []string{"credential-access"}},
	"T1133":     {"External Remote Services", []string{"initial-access", "persistence"}},
	"T1136.001": {"Local Account", []string{"persistence"}},
	"T1190":     {"Exploit Public-Facing Application", []string{"initial-access"}},
	"T1204.003": {"Malicious Image", []string{"execution"}},
	"T1218":     {"System Binary Proxy Execution", []string{"defense-evasion"}},
	"T1485":     {"Data Destruction", []string{"impact"}},
	"T1486":     {"Data Encrypted for Impact", []string{"impact"}},
	"T1490":     {"Inhibit System Recovery", []string{"impact"}},
	"T1496.001": {"Compute Hijacking", []string{"impact"}},
	"T1496.002": {"Bandwidth Hijacking", []string{"impact"}},
	"T1498":     {"Network Denial of Service", []string{"impact"}},
	"T1499":     {"Endpoint Denial of Service", []string{"impact"}},
	"T1505.003": {"Web Shell", []string{"persistence"}},
	"T1528":     {"Steal Application Access Token", []string{"credential-access"}},
	"T1529":     {"System Shutdown/Reboot", []string{"impact"}},
	"T1543.002": {"Systemd Service", []string{"persistence", "privilege-escalation"}},
	"T1546":     {"Event Triggered Execution", []string{"persistence", "privilege-escalation"}},
	"T1546.004": {"Unix Shell Configuration Modification", []string{"persistence", "privilege-escalation"}},
	"T1547.006": {"Kernel Modules and Extensions", []string{"persistence", "privilege-escalation"}},
	"T1548.001": {"Setuid and Setgid", []string{"defense-evasion", "privilege-escalation"}},
	"T1548.003": {"Sudo and Sudo Caching", []string{"defense-evasion", "privilege-escalation"}},
	"T1550.001": {"Application Access Token", []string{"defense-evasion", "lateral-movement"}},
	"T1552.001": {"Credentials In Files", []string{"credential-access"}},
	"T1552.004": {"Private Keys", []string{"credential-access"}},
	"T1552.005": {"Cloud Instance Metadata API", []string{"credential-access"}},
	"T1552.007": {"Container API", []string{"credential-access"}},
	"T1556.003": {"Pluggable Authentication Modules", []string{"credential-access", "defense-evasion", "persistence"}},
	"T1560.001": {"Archive via Utility", []string{"collection"}},
	"T1561.001": {"Disk Content Wipe", []string{"impact"}},
	"T1562.001": {"Disable or Modify Tools", []string{"defense-evasion"}},
	"T1562.004": {"Disable or Modify System Firewall", []string{"defense-evasion"}},
	"T1567.002": {"Exfiltration to Cloud Storage", []string{"exfiltration"}},
	"T1570":     {"Lateral Tool Transfer", []string{"lateral-movement"}},
	"T1572":     {"Protocol Tunneling", []string{"command-and-control"}},
	"T1574.006": {"Dynamic Linker Hijacking", []string{"defense-evasion", "persistence", "privilege-escalation"}},
	"T1609":     {"Container Administration Command", []string{"execution"}},
	"T1610":     {"Deploy Container", []string{"defense-evasion", "execution"}},
	"T1611":     {"Escape to Host", []string{"privilege-escalation"}},
	"T1612":     {"Build Image on Host", []string{"defense-evasion"}},
	"T1613":     {"Container and Resource Discovery", []string{"discovery"}},
	"T1620":     {"Reflective Code Loading", []string{"defense-evasion"}},
}

// TechniqueNamed returns the technique of the rule with its name, where it is known.
func (r *Rule) TechniqueNamed() bulkhead.Technique {
	return bulkhead.Technique{ID: r.Technique, Name: techniques[r.Technique].name, Tactic: r.Tactic}
}
