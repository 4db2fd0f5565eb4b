package eol

// distributions are the products of endoflife.date by the ID of os-release. Rolling ones have no end.
var distributions = map[string]string{
	"almalinux":     "almalinux",
	"alpine":        "alpine-linux",
	"amzn":          "amazon-linux",
	"centos":        "centos",
	"debian":        "debian",
	"devuan":        "devuan",
	"fedora":        "fedora",
	"linuxmint":     "linuxmint",
	"mageia":        "mageia",
	"ol":            "oracle-linux",
	"opensuse":      "opensuse",
	"opensuse-leap": "opensuse",
	"photon":        "vmware-photon",
	"rhel":          "rhel",
	"rocky":         "rocky-linux",
	"sled":          "sles",
	"sles":          "sles",
	"ubuntu":        "ubuntu",
}

// programs are the products by the names that package binary gives, where these differ. A program without a line is
// looked up by its own name. An empty product is never over: each of its releases ends when the next one comes, so that
// an end says no more than that there is a newer one.
var programs = map[string][]string{
	"apache":      {"apache-http-server"},
	"argo-cd":     {""},
	"aspnet-core": {"dotnet"},
	"bind":        {""},
	"curl":        {""},
	"dotnet":      {"dotnet"},
	"golang":      {"go"},
	"java":        {"eclipse-temurin", "amazon-corretto", "azul-zulu", "oracle-jdk", "red-hat-build-of-openjdk", "bellsoft-liberica"},
	"jre":         {"eclipse-temurin", "amazon-corretto", "azul-zulu", "oracle-jdk", "red-hat-build-of-openjdk", "bellsoft-liberica"},
	"node":        {"nodejs"},
	"docker":      {"docker-engine"},
	"rust":        {""},
	"vault":       {"hashicorp-vault"},
}
