package portrait

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

// OpenAPI returns what is usual as a description in OpenAPI 3.1.
func (p *Portrait) OpenAPI(title string) ([]byte, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	paths := map[string]map[string]any{}
	for _, e := range p.p.Endpoints {
		if len(e.Seen.Sources) < minSources {
			continue
		}
		path, inPath := numbered(e.Template)
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(e.Method)] = e.operation(inPath)
	}
	return json.MarshalIndent(map[string]any{"openapi": "3.1.0", "info": map[string]any{"title": title, "version": "learned"}, "paths": paths}, "", " ")
}

// numbered gives the values in a template names of their own: /a/{integer}/{integer} → /a/{integer1}/{integer2}.
func numbered(template string) (path string, parameters []any) {
	n := 0
	parts := strings.Split(template, "/")
	for i, part := range parts {
		if kind, is := strings.CutPrefix(part, "{"); is {
			n++
			name := strings.TrimSuffix(kind, "}") + strconv.Itoa(n)
			parts[i] = "{" + name + "}"
			parameters = append(parameters, map[string]any{"name": name, "in": "path", "required": true, "schema": schemaOf(strings.TrimSuffix(kind, "}"))})
		}
	}
	return strings.Join(parts, "/"), parameters
}

func (e *Endpoint) operation(parameters []any) map[string]any {
	bodies := map[string]map[string]any{} // by media type
	var required []string
	var keys []string
	for key := range e.Parameters {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		v := e.Parameters[key]
		if !v.Seen.usual(e.Seen.Count) {
			continue
		}
		always := v.Seen.Count >= e.Seen.Count
		if v.Place == "query" {
			parameters = append(parameters, map[string]any{"name": v.Name, "in": "query", "required": always, "schema": v.schema()})
			continue
		}
		kind := map[string]string{"form": "application/x-www-form-urlencoded", "json": "application/json", "xml": "application/xml"}[v.Place]
		if bodies[kind] == nil {
			bodies[kind] = map[string]any{}
		}
		bodies[kind][v.Name] = v.schema()
		if always {
			required = append(required, v.Name)
		}
	}
	op := map[string]any{"responses": map[string]any{"default": map[string]any{"description": "not looked at"}}}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	if len(bodies) > 0 {
		content := map[string]any{}
		for kind, properties := range bodies {
			schema := map[string]any{"type": "object", "properties": properties}
			if len(required) > 0 {
				schema["required"] = required
			}
			content[kind] = map[string]any{"schema": schema}
		}
		op["requestBody"] = map[string]any{"content": content}
	}
	return op
}

func (v *Parameter) schema() map[string]any {
	types := v.types()
	s := schemaOf(types)
	if s["type"] == "string" {
		s["maxLength"] = 1 << v.longest()
	}
	return s
}

func schemaOf(kind string) map[string]any {
	switch kind {
	case "integer", "number", "boolean":
		return map[string]any{"type": kind}
	case "integer or number":
		return map[string]any{"type": "number"}
	case "uuid", "date", "email":
		return map[string]any{"type": "string", "format": kind}
	}
	return map[string]any{"type": "string"}
}
