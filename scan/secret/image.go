package secret

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
)

// secretNames are ends of names of variables that hold secrets.
var secretNames = []string{"PASSWORD", "PASSWD", "PASSPHRASE", "_PASS", "_PWD", "SECRET", "SECRET_KEY", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY", "TOKEN", "CREDENTIALS", "ENCRYPTION_KEY", "SIGNING_KEY", "MASTER_KEY"}

// Image finds secrets in an image's configuration: its variables, labels, command and the steps that made it. All
// findings have an empty path, as they are in no file. Every holder of the image can read them with one command.
func Image(c image.Config) []bulkhead.Finding {
	s := shared()
	var found []bulkhead.Finding
	for _, e := range c.Env {
		found = append(found, s.variable(e)...)
	}
	for _, k := range sortedKeys(c.Labels) {
		found = append(found, s.inConfig("label "+k, k+"="+c.Labels[k])...)
	}
	found = append(found, s.inConfig("command", strings.Join(append(append([]string{}, c.Entrypoint...), c.Cmd...), " "))...)
	for i, h := range c.History {
		if !strings.Contains(h.CreatedBy, "ENV ") { // those are in Env
			found = append(found, s.inConfig(fmt.Sprintf("step %d of the build", i+1), h.CreatedBy)...)
			found = append(found, arguments(i, h.CreatedBy)...)
		}
	}
	return unique(found)
}

// variable looks at one variable, by the shape of its value and by its name.
func (s *scanner) variable(e string) []bulkhead.Finding {
	name, value, _ := strings.Cut(e, "=")
	where := "variable " + clip(name)
	if found := s.inConfig(where, e); len(found) > 0 {
		return found
	}
	if !isSecretName(name) || isPlaceholder(value) || len(value) < 4 || strings.HasPrefix(value, "/") {
		return nil
	}
	return []bulkhead.Finding{configFinding("variable-secret", bulkhead.High, where, fmt.Sprintf("… (%d characters)", len(value)))}
}

func isSecretName(name string) bool {
	name = strings.ToUpper(name)
	for _, n := range secretNames {
		if strings.HasSuffix(name, n) {
			return !strings.HasSuffix(name, "PUBLIC_KEY")
		}
	}
	return false
}

// arguments finds build arguments with secrets in a step: "|2 NPM_TOKEN=abc VERSION=1 /bin/sh -c …".
func arguments(step int, createdBy string) []bulkhead.Finding {
	rest := createdBy
	if _, after, ok := strings.Cut(createdBy, "RUN |"); ok {
		rest = after
	} else if !strings.HasPrefix(rest, "|") {
		return nil
	}
	before, _, _ := strings.Cut(rest, " /bin/")
	var found []bulkhead.Finding
	for _, field := range strings.Fields(before) {
		name, value, ok := strings.Cut(field, "=")
		if ok && isSecretName(name) && len(value) >= 4 && !isPlaceholder(value) {
			where := fmt.Sprintf("argument %s in step %d of the build", clip(name), step+1)
			found = append(found, configFinding("argument-secret", bulkhead.High, where, fmt.Sprintf("… (%d characters)", len(value))))
		}
	}
	return found
}

func (s *scanner) inConfig(where, text string) []bulkhead.Finding {
	if len(text) > maxConfigText {
		text = text[:maxConfigText]
	}
	var found []bulkhead.Finding
	for _, f := range s.findings([]byte(text), "", true, s.find([]byte(text), true)) {
		found = append(found, configFinding(f.Rule, f.Severity, where, f.Evidence[0].Text))
	}
	return found
}

// maxConfigText is far above what Docker takes as one variable or step.
const maxConfigText = 1 << 20

func configFinding(rule string, severity bulkhead.Severity, where, masked string) bulkhead.Finding {
	return bulkhead.Finding{
		Kind: bulkhead.FindingSecret, Rule: rule, Severity: severity,
		Message:  "a secret is in the image's configuration (" + where + "), which everybody who can pull it can read: revoke it; use RUN --mount=type=secret in the build, and give it to the container when it runs",
		Evidence: []bulkhead.Evidence{{Text: masked, Why: where}},
	}
}

// clip keeps names from an image short and printable.
func clip(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, name)
	return name[:min(len(name), 64)]
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func unique(found []bulkhead.Finding) []bulkhead.Finding {
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(f bulkhead.Finding) bool {
		key := f.Rule + f.Evidence[0].Text + f.Evidence[0].Why
		defer func() { seen[key] = true }()
		return seen[key]
	})
}
