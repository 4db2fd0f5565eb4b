package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep a document nests: a profile has five levels.
const maxDepth = 16

// value is one value of a document, JSON or YAML, with its place.
type value struct {
	line, column int
	kind         byte // '{', '[', 's' text, 'n' number, 'b' truth, '0' null
	text         string
	items        []*value
	fields       []field
}

type field struct {
	name  string
	key   *value // where the name stands
	value *value
}

func (v *value) wrong(format string, args ...any) error {
	return &Error{Line: v.line, Column: v.column, What: fmt.Sprintf(format, args...)}
}

// at returns a field, or v itself when it is not there: errors then name v's place.
func (v *value) at(name string) *value {
	for _, f := range v.fields {
		if f.name == name {
			return f.value
		}
	}
	return v
}

func (v *value) item(i int) *value {
	if i < len(v.items) {
		return v.items[i]
	}
	return v
}

// add adds a field, once.
func (v *value) add(name string, key, val *value) error {
	for _, f := range v.fields {
		if f.name == name {
			return key.wrong("%q is there twice (first in line %d); keep one", name, f.key.line)
		}
	}
	if len(v.fields) >= 64 { // no object of a profile has more than 20 fields; it bounds the search above
		return key.wrong("has too many fields; check that this is a profile")
	}
	v.fields = append(v.fields, field{name, key, val})
	return nil
}

// jsonParser reads JSON with places.
type jsonParser struct {
	text  []byte
	d     *json.Decoder
	lines []int // offsets at which lines begin
}

func parseJSON(text []byte) (*value, error) {
	p := &jsonParser{text: text, d: json.NewDecoder(bytes.NewReader(text)), lines: []int{0}}
	p.d.UseNumber()
	for i, c := range text {
		if c == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	end := p.here()
	if _, err := p.d.Token(); !errors.Is(err, io.EOF) {
		return nil, end.wrong("something follows the profile; one file holds one profile")
	}
	return root, nil
}

// here is the place of the next token.
func (p *jsonParser) here() *value {
	at := int(p.d.InputOffset())
	for at < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	return p.place(at)
}

func (p *jsonParser) place(offset int) *value {
	line, exact := slices.BinarySearch(p.lines, offset)
	if !exact {
		line--
	}
	return &value{line: line + 1, column: 1 + utf8.RuneCount(p.text[p.lines[line]:min(offset, len(p.text))])}
}

func (p *jsonParser) value(depth int) (*value, error) {
	v := p.here()
	if depth > maxDepth {
		return nil, v.wrong("nests deeper than %d levels; a profile never does", maxDepth)
	}
	token, err := p.d.Token()
	if err != nil {
		return nil, p.syntax(v, err)
	}
	switch t := token.(type) {
	case json.Delim:
		v.kind = byte(t)
		return v, p.inside(v, depth)
	case string:
		v.kind, v.text = 's', t
	case json.Number:
		v.kind, v.text = 'n', t.String()
	case bool:
		v.kind, v.text = 'b', strconv.FormatBool(t)
	case nil:
		v.kind = '0'
	}
	return v, nil
}

// inside reads the fields or items of v and what closes it.
func (p *jsonParser) inside(v *value, depth int) error {
	for p.d.More() {
		var key *value
		if v.kind == '{' {
			var err error
			if key, err = p.value(depth + 1); err != nil {
				return err
			}
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		if v.kind == '[' {
			v.items = append(v.items, item)
		} else if err := v.add(key.text, key, item); err != nil {
			return err
		}
	}
	at := p.here()
	if _, err := p.d.Token(); err != nil {
		return p.syntax(at, err)
	}
	return nil
}

func (p *jsonParser) syntax(at *value, err error) error {
	var bad *json.SyntaxError
	if errors.As(err, &bad) && bad.Offset > 0 {
		if there := p.place(int(bad.Offset) - 1); there.line > at.line || there.line == at.line && there.column > at.column {
			at = there
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return p.place(len(p.text)).wrong("the file ends in the middle; copy it again, whole")
	}
	return at.wrong("is not JSON: %s; correct it here", strings.TrimPrefix(err.Error(), "json: "))
}

// parseYAML reads YAML with places. Anchors are refused: a small file with them can stand
// for a huge one, and a profile has no use for them.
func parseYAML(text []byte) (root *value, err error) {
	if !utf8.Valid(text) {
		return nil, (&value{line: 1, column: 1}).wrong("is not UTF-8 text; check that this is a profile")
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var n yaml.Node
	if err := d.Decode(&n); err != nil {
		return nil, yamlError(err)
	}
	if len(n.Content) != 1 {
		return nil, (&value{line: 1, column: 1}).wrong("is empty; write a profile, or record one")
	}
	if root, err = fromYAML(n.Content[0], 0); err != nil {
		return nil, err
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, (&value{line: max(1, more.Line), column: max(1, more.Column)}).wrong("something follows the profile; one file holds one profile")
	}
	return root, nil
}

func yamlError(err error) error {
	if errors.Is(err, io.EOF) {
		return (&value{line: 1, column: 1}).wrong("is empty; write a profile, or record one")
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := &value{line: 1, column: 1}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return at.wrong("is not YAML: %s; correct it here", text)
}

func fromYAML(n *yaml.Node, depth int) (*value, error) {
	v := &value{line: n.Line, column: n.Column, text: n.Value}
	switch {
	case depth > maxDepth:
		return nil, v.wrong("nests deeper than %d levels; a profile never does", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, v.wrong("anchors and aliases are not part of a profile; write the value out")
	case n.Kind == yaml.ScalarNode:
		v.kind = scalarKind(n)
		return v, nil
	case n.Kind == yaml.SequenceNode:
		v.kind = '['
		for _, c := range n.Content {
			item, err := fromYAML(c, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
		}
		return v, nil
	}
	v.kind = '{'
	return v, v.mapping(n, depth)
}

func (v *value) mapping(n *yaml.Node, depth int) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := fromYAML(n.Content[i], depth+1)
		if err != nil {
			return err
		}
		item, err := fromYAML(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if err := v.add(key.text, key, item); err != nil {
			return err
		}
	}
	return nil
}

func scalarKind(n *yaml.Node) byte {
	switch n.ShortTag() {
	case "!!int", "!!float":
		return 'n'
	case "!!bool":
		return 'b'
	case "!!null":
		return '0'
	}
	return 's'
}

// fill writes v into the value that target points to, by the names of the JSON form.
func fill(v *value, target any) error { return v.into(reflect.ValueOf(target).Elem()) }

func (v *value) into(to reflect.Value) error {
	if v.kind == '0' {
		return nil // null is what is not there
	}
	if to.Type() == reflect.TypeFor[time.Time]() {
		t, err := parseTime(v.text)
		if err != nil {
			return v.wrong("%q is not a time; write it like 2026-01-31T12:00:00Z", v.text)
		}
		to.Set(reflect.ValueOf(t))
		return nil
	}
	switch to.Kind() {
	case reflect.Struct:
		return v.intoStruct(to)
	case reflect.Slice:
		return v.intoSlice(to)
	case reflect.Map:
		return v.intoMap(to)
	}
	return v.intoScalar(to)
}

func (v *value) intoStruct(to reflect.Value) error {
	if v.kind != '{' {
		return v.wrong("an object with named fields belongs here")
	}
	for _, f := range v.fields {
		i := fieldIndex(to.Type(), f.name)
		if i < 0 {
			return f.key.wrong("there is no field %q; use one of %s", f.name, strings.Join(fieldNames(to.Type()), ", "))
		}
		if err := f.value.into(to.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func fieldIndex(t reflect.Type, name string) int { return slices.Index(fieldNames(t), name) }

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func (v *value) intoSlice(to reflect.Value) error {
	if v.kind != '[' {
		return v.wrong("a list belongs here")
	}
	list := reflect.MakeSlice(to.Type(), len(v.items), len(v.items))
	for i, item := range v.items {
		if item.kind == '0' {
			return item.wrong("null is no entry of a list; take it out")
		}
		if err := item.into(list.Index(i)); err != nil {
			return err
		}
	}
	to.Set(list)
	return nil
}

func (v *value) intoMap(to reflect.Value) error {
	if v.kind != '{' {
		return v.wrong("an object with named fields belongs here")
	}
	to.Set(reflect.MakeMap(to.Type()))
	for _, f := range v.fields {
		one := reflect.New(to.Type().Elem()).Elem()
		if err := f.value.into(one); err != nil {
			return err
		}
		to.SetMapIndex(reflect.ValueOf(f.name).Convert(to.Type().Key()), one)
	}
	return nil
}

func (v *value) intoScalar(to reflect.Value) error {
	switch to.Kind() {
	case reflect.String:
		if v.kind == 's' {
			to.SetString(v.text)
			return nil
		}
		return v.wrong("a text belongs here; put it in quotes")
	case reflect.Bool:
		if b, err := strconv.ParseBool(v.text); v.kind == 'b' && err == nil {
			to.SetBool(b)
			return nil
		}
		return v.wrong("true or false belongs here")
	case reflect.Int:
		if n, err := strconv.ParseInt(v.text, 10, 32); v.kind == 'n' && err == nil {
			to.SetInt(n)
			return nil
		}
	case reflect.Uint64:
		if n, err := strconv.ParseUint(v.text, 10, 64); v.kind == 'n' && err == nil {
			to.SetUint(n)
			return nil
		}
	case reflect.Float64:
		if x, err := strconv.ParseFloat(v.text, 64); v.kind == 'n' && err == nil && x >= 0 && !math.IsInf(x, 0) {
			to.SetFloat(x)
			return nil
		}
	}
	return v.wrong("a number belongs here, not %q", v.text)
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
