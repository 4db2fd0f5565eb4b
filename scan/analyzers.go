package scan

import (
	"fmt"
	"slices"

	"bulkhead/malware"
	"bulkhead/malware/webshell"
	"bulkhead/scan/archive"
	"bulkhead/scan/binary"
	"bulkhead/scan/config"
	"bulkhead/scan/distro"
	"bulkhead/scan/language"
	"bulkhead/scan/look"
	"bulkhead/scan/secret"
)

// addAnalyzers is the one list of everything that looks at files. A new analyzer gets a line here; it goes through
// archives inside the image too when it is given to archive.Inside.
func (s *Scanner) addAnalyzers() error {
	s.add(&s.analyzers, distro.Analyzers())
	s.add(&s.analyzers, binary.Analyzers())
	s.add(&s.analyzers, language.Installed())
	if s.wants(look.Secret) { // whose rules take time to prepare
		s.add(&s.analyzers, secret.Analyzers())
	}
	s.add(&s.analyzers, config.Analyzers())
	s.add(&s.declared, language.Declared())
	s.add(&s.declared, besideAnalyzers())
	return s.addInside()
}

func (s *Scanner) add(to *[]look.Analyzer, list []look.Analyzer) {
	for _, a := range list {
		if s.wants(a.Kind) || a.Name == osAnalyzer {
			*to = append(*to, a)
		}
	}
}

// osAnalyzer tells the distribution, which a report has whatever it is about.
const osAnalyzer = "os"

// addInside adds what also looks into archives: who hides something hides it there.
func (s *Scanner) addInside() error {
	var inside []look.Analyzer
	if s.wants(look.Malware) {
		m, err := malware.New(malware.Options{Rules: s.options.Rules, Hashes: s.options.Hashes, ClamAV: s.options.ClamAV})
		if err != nil {
			return fmt.Errorf("prepare the search for malware: %w", err)
		}
		s.close = append(s.close, m.Close)
		s.incomplete = append(s.incomplete, m.Incomplete()...)
		inside = append(inside, m.Analyzer())
	}
	if s.wants(look.WebShell) {
		inside = append(inside, webshell.Analyzer())
	}
	if len(inside) > 0 {
		s.analyzers = append(s.analyzers, inside...)
		s.analyzers = append(s.analyzers, archive.Inside(inside...))
	}
	return nil
}

// brought says what beside the analyzers' versions decides what they say: the rules and lists of a user.
func (s *Scanner) brought() string {
	o := s.options
	return fmt.Sprintf("%q %q %q", slices.Sorted(slices.Values(o.Rules)), slices.Sorted(slices.Values(o.Hashes)), o.ClamAV)
}
