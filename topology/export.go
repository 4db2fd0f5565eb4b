package topology

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"bulkhead"
)

// Names in a graph are what containers and DNS servers say. Both writers let no character through that could end a
// text or begin markup.

// WriteDOT writes a graph for Graphviz.
func WriteDOT(w io.Writer, g *Graph) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "digraph flows {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];")
	numbers := number(g)
	for i, namespace := range namespaces(g) {
		if namespace != "" {
			fmt.Fprintf(b, "  subgraph cluster_%d {\n    label=\"%s\";\n", i, dotText(namespace))
		}
		for _, n := range g.Nodes {
			if n.Namespace == namespace {
				fmt.Fprintf(b, "    n%d [label=\"%s\"%s];\n", numbers[n.ID], dotText(title(n)), dotShape(n.Kind))
			}
		}
		if namespace != "" {
			fmt.Fprintln(b, "  }")
		}
	}
	for _, l := range g.Links {
		fmt.Fprintf(b, "  n%d -> n%d [label=\"%s\"%s];\n", numbers[l.Source], numbers[l.Destination], dotText(ports(l)), dotColour(l))
	}
	fmt.Fprintln(b, "}")
	return b.Flush()
}

// WriteMermaid writes a graph for Mermaid.
func WriteMermaid(w io.Writer, g *Graph) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "flowchart LR")
	numbers := number(g)
	for i, namespace := range namespaces(g) {
		if namespace != "" {
			fmt.Fprintf(b, "  subgraph s%d[\"%s\"]\n", i, mermaidText(namespace))
		}
		for _, n := range g.Nodes {
			if n.Namespace == namespace {
				open, end := mermaidShape(n.Kind)
				fmt.Fprintf(b, "    n%d%s\"%s\"%s\n", numbers[n.ID], open, mermaidText(title(n)), end)
			}
		}
		if namespace != "" {
			fmt.Fprintln(b, "  end")
		}
	}
	for _, l := range g.Links {
		fmt.Fprintf(b, "  n%d %s|\"%s\"| n%d\n", numbers[l.Source], mermaidArrow(l), mermaidText(ports(l)), numbers[l.Destination])
	}
	return b.Flush()
}

func number(g *Graph) map[string]int {
	numbers := make(map[string]int, len(g.Nodes))
	for i, n := range g.Nodes {
		numbers[n.ID] = i
	}
	return numbers
}

func namespaces(g *Graph) []string {
	var all []string
	for _, n := range g.Nodes {
		all = append(all, n.Namespace)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// title is what a person reads in a node.
func title(n Node) string {
	name := strings.TrimPrefix(n.Name, n.Namespace+"/")
	if len(n.Members) > 1 {
		return fmt.Sprintf("%s (%d)", name, len(n.Members))
	}
	return name
}

// maxPorts are named on an arrow; a scan has thousands.
const maxPorts = 6

func ports(l Link) string {
	var all []string
	for _, f := range l.Edges {
		text := f.Protocol
		if f.Port != 0 {
			text = fmt.Sprintf("%s/%d", f.Protocol, f.Port)
		}
		if f.Application != "" {
			text += " " + f.Application
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
		if len(all) > maxPorts {
			return fmt.Sprintf("%s and more", strings.Join(all[:maxPorts], ", "))
		}
	}
	return strings.Join(all, ", ")
}

const maxTitle = 200 // characters

// printable cuts a text and leaves out what is not printable.
func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxTitle {
			b.WriteRune('…')
			break
		}
		if r == ' ' || unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		b.WriteRune('?')
	}
	return b.String()
}

func dotText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(s))
}

// mermaidText writes everything but letters, digits and a few harmless signs as a character's number.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" ./:-_,=()…", r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "#%d;", r)
	}
	return b.String()
}

func dotShape(kind bulkhead.EndpointKind) string {
	switch kind {
	case bulkhead.EndWorld:
		return ", shape=ellipse"
	case bulkhead.EndHost:
		return ", shape=box3d"
	case bulkhead.EndService:
		return ", style=dashed"
	}
	return ""
}

func dotColour(l Link) string {
	if l.Denied > 0 {
		return `, color="red"`
	}
	return ""
}

func mermaidShape(kind bulkhead.EndpointKind) (open, end string) {
	switch kind {
	case bulkhead.EndWorld:
		return "([", "])"
	case bulkhead.EndHost:
		return "[[", "]]"
	}
	return "[", "]"
}

func mermaidArrow(l Link) string {
	if l.Denied > 0 {
		return "-.->"
	}
	return "-->"
}
