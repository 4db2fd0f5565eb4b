package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// peer is a program that we are compared with.
type peer struct {
	name, benchmark string // as in the maps of our checks: docker/2.1
	ask             func() ([]answer, error)
}

// answer is what a peer says of one section: pass, fail, or nothing where it leaves it to people.
type answer struct{ section, status string }

func peers() (list []peer) {
	if *dockerBench != "" {
		list = append(list, peer{"docker-bench", "docker", askDockerBench})
	}
	if *kubeBench != "" {
		list = append(list, peer{"kube-bench", "kubernetes", askKubeBench})
	}
	return list
}

// askDockerBench runs it where it writes nothing of ours: it keeps its log beside itself.
func askDockerBench() (list []answer, err error) {
	dir, err := os.MkdirTemp("", "docker-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.Command("cp", "-a", *dockerBench+"/.", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	c := exec.Command("bash", "docker-bench-security.sh", "-b", "-l", "answer")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "answer.json"))
	if err != nil {
		return nil, err
	}
	var report struct {
		Tests []struct {
			Results []struct{ ID, Result string }
		}
	}
	if err := json.Unmarshal(content, &report); err != nil {
		return nil, err
	}
	for _, t := range report.Tests {
		for _, r := range t.Results {
			list = append(list, answer{r.ID, map[string]string{"PASS": "pass", "WARN": "fail"}[r.Result]})
		}
	}
	return list, nil
}

func askKubeBench() (list []answer, err error) {
	cfg := filepath.Join(*kubeBench, "cfg")
	c := exec.Command(filepath.Join(*kubeBench, "kube-bench"), "run", "--targets", "master,etcd,controlplane,node", "--benchmark", *benchmark,
		"--config-dir", cfg, "--config", filepath.Join(cfg, "config.yaml"), "--json")
	var problems bytes.Buffer
	c.Stderr = &problems
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, problems.String())
	}
	var report struct {
		Controls []struct {
			Tests []struct {
				Results []struct {
					Number string `json:"test_number"`
					Status string `json:"status"`
					Type   string `json:"type"`
				} `json:"results"`
			} `json:"tests"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, err
	}
	for _, control := range report.Controls {
		for _, t := range control.Tests {
			for _, r := range t.Results {
				list = append(list, answer{r.Number, kubeStatus(r.Status, r.Type)})
			}
		}
	}
	return list, nil
}

// kubeStatus: a warning is a failure without a score, but for what people are to look at.
func kubeStatus(status, kind string) string {
	switch {
	case kind == "manual":
		return ""
	case status == "PASS":
		return "pass"
	case status == "FAIL" || status == "WARN":
		return "fail"
	}
	return ""
}

// reason says why an answer of ours differs and is right.
type reason struct{ peer, section, check, theirs, ours, text string }

// readReasons reads the table of differences: | peer section | check | theirs | ours | why |.
func readReasons(name string) (list []reason, err error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(content)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		peer, sections, ok := strings.Cut(cells[0], " ")
		if !ok || !slices.Contains([]string{"docker-bench", "kube-bench"}, peer) {
			continue
		}
		for section := range strings.SplitSeq(sections, ",") {
			for id := range strings.SplitSeq(cells[1], ",") {
				list = append(list, reason{peer, strings.TrimSpace(section), strings.TrimSpace(id), cells[2], cells[3], cells[4]})
			}
		}
	}
	return list, nil
}

// find is the reason for one difference; "any" stands for every answer.
func find(list []reason, r row, c check) string {
	for _, w := range list {
		if w.peer == r.Peer && w.section == r.Section && w.check == c.ID && w.theirs == r.Theirs && w.ours == c.Status {
			return w.text
		}
	}
	return ""
}
