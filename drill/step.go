package drill

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed steps/*.yaml
var files embed.FS

// Step is one thing an attacker does, how it is seen from outside that it worked, and the ordinary
// thing that looks most like it.
type Step struct {
	ID         string   `yaml:"id" json:"id"`
	Name       string   `yaml:"name" json:"name"`
	Techniques []string `yaml:"techniques" json:"techniques"` // of ATT&CK, and of the Kubernetes threat matrix
	Tactic     string   `yaml:"-" json:"tactic"`              // the file it stands in
	Stage      string   `yaml:"stage" json:"stage"`           // what the container is given: see stages
	Enter      bool     `yaml:"enter" json:"enter,omitempty"` // the commands are started from outside, as by `docker exec`

	Run      string `yaml:"run" json:"run,omitempty"`           // a shell command that the application with the hole is made to run
	Manifest string `yaml:"manifest" json:"manifest,omitempty"` // or an object that is asked of a cluster
	Image    string `yaml:"image" json:"image,omitempty"`       // or an image that is brought: see images
	Works    Goal   `yaml:"works" json:"works"`
	Twin     string `yaml:"twin" json:"twin"` // must do what it does without an alarm; of the step's own kind
}

// Goal is how success is seen. One of Output, File, Gone and Reached says where.
type Goal struct {
	Output  string `yaml:"output" json:"output,omitempty"`   // the attacker reads this
	File    string `yaml:"file" json:"file,omitempty"`       // this file of the container is there
	Has     string `yaml:"has" json:"has,omitempty"`         // and says this
	Gone    string `yaml:"gone" json:"gone,omitempty"`       // this file of the container is not there any more
	Reached string `yaml:"reached" json:"reached,omitempty"` // somebody in the drill's network was told this
}

func (g Goal) empty() bool { return g.Output == "" && g.File == "" && g.Gone == "" && g.Reached == "" }

// Steps returns all steps, by file and then as they are written.
func Steps() ([]Step, error) {
	names, err := fs.Glob(files, "steps/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []Step
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		some, err := parse(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func parse(name string, data []byte) ([]Step, error) {
	var some []Step
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&some); err != nil {
		return nil, fmt.Errorf("read the steps of %s: %w", name, err)
	}
	for i := range some {
		s := &some[i]
		s.Tactic = strings.TrimSuffix(path.Base(name), ".yaml")
		if s.Stage == "" {
			s.Stage = "plain"
		}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("step %q of %s: %w", s.ID, name, err)
		}
	}
	return some, nil
}

func (s *Step) check() error {
	switch {
	case s.ID == "" || s.Name == "" || s.Twin == "":
		return fmt.Errorf("it needs an id, a name and a twin")
	case (s.Run != "") == (s.Manifest+s.Image != "") || s.Manifest != "" && s.Image != "":
		return fmt.Errorf("it needs one of run, manifest and image")
	case (s.Run != "") == s.Works.empty():
		return fmt.Errorf("what runs says how one sees that it works, and the rest does not")
	case stages[s.Stage] == nil:
		return fmt.Errorf("there is no stage %q", s.Stage)
	}
	for _, t := range s.Techniques {
		if _, ok := named(t); !ok {
			return fmt.Errorf("there is no technique %q in the tables of matrix.go", t)
		}
	}
	return nil
}

// is reports whether one means the step by a word: its id, one of its techniques, its tactic.
func (s *Step) is(word string) bool {
	return word == s.ID || word == s.Tactic || slices.ContainsFunc(s.Techniques, func(t string) bool { return within(t, word) })
}

// group names the steps that share a container: what an application of one kind is taught, and what is
// done to it, are of a piece.
func (s *Step) group() string {
	if s.Run == "" {
		return "" // needs no container
	}
	return s.Tactic + "/" + s.Stage
}
