package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// maxFile caps the file.
const maxFile = 256 << 10

// Sources are where values come from.
type Sources struct {
	// File is a path; empty for none.
	File string
	// Env looks a variable up, as os.LookupEnv does.
	Env func(string) (string, bool)
	// Flags are key=value.
	Flags []string
	// Provider is the one to use; empty leaves it to provider.name.
	Provider string
}

// sourceDefault is where a value comes from that nobody set.
const sourceDefault = "default"

// Value is one key as it stands.
type Value struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Source  string `json:"source"`
	Default string `json:"default"`
	Meaning string `json:"meaning"`
	Env     string `json:"env"`
	dir     string
}

// Load reads all sources, and explains every key. Errors are ErrConfig.
func Load(s Sources) (Config, []Value, error) {
	values := make(map[string]Value, len(table))
	for _, k := range table {
		values[k.name] = Value{Key: k.name, Value: k.fallback, Source: sourceDefault, Default: k.fallback, Meaning: k.meaning, Env: envOf(k.name)}
	}
	if err := s.fromFile(values); err != nil {
		return Config{}, nil, err
	}
	s.fromEnv(values)
	if err := s.fromFlags(values); err != nil {
		return Config{}, nil, err
	}
	if err := s.provider(values); err != nil {
		return Config{}, nil, err
	}
	c := Config{sources: make(map[string]string, len(table))}
	explained := make([]Value, 0, len(table))
	for _, k := range table {
		v := values[k.name]
		c.sources[k.name] = v.Source
		if err := k.set(&c, v.Value, v.dir); err != nil {
			return Config{}, nil, c.Errorf(k.name, err)
		}
		explained = append(explained, v)
	}
	if err := c.use(s.Provider); err != nil {
		return Config{}, nil, err
	}
	return c, explained, c.consistent()
}

// consistent refuses values that each are fine and together are not.
func (c *Config) consistent() error {
	if c.HeartbeatLost < 2*c.Heartbeat {
		return fmt.Errorf("%w: timeouts.heartbeat_lost is %s and agents.heartbeat is %s: "+
			"a machine that reports on time would be restarted; want at least twice the heartbeat",
			ErrConfig, c.HeartbeatLost, c.Heartbeat)
	}
	if c.LogQuorum > len(c.LogWitnesses) {
		return fmt.Errorf("%w: transparency.quorum is %d and transparency.witnesses has %d", ErrConfig, c.LogQuorum, len(c.LogWitnesses))
	}
	if c.LogQuorum == 0 {
		c.LogQuorum = len(c.LogWitnesses)
	}
	return c.settlePlaces()
}

func envOf(key string) string {
	return "SHED_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (s Sources) fromEnv(values map[string]Value) {
	for name, v := range values {
		if text, ok := s.Env(v.Env); ok {
			v.Value, v.Source, v.dir = text, v.Env, ""
			values[name] = v
		}
	}
}

func (s Sources) fromFlags(values map[string]Value) error {
	for _, flag := range s.Flags {
		name, text, ok := strings.Cut(flag, "=")
		v, known := values[name]
		switch {
		case !ok:
			return fmt.Errorf("%w: flag %q is not key=value", ErrConfig, flag)
		case !known:
			return fmt.Errorf("%w: unknown key %s in a flag", ErrConfig, name)
		}
		v.Value, v.Source, v.dir = text, "flag", ""
		values[name] = v
	}
	return nil
}

func (s Sources) fromFile(values map[string]Value) error {
	if s.File == "" {
		return nil
	}
	content, err := readCapped(s.File)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Dir(s.File))
	if err != nil {
		return fmt.Errorf("%w: locating %s: %w", ErrConfig, s.File, err)
	}
	r := &fileReader{name: s.File, dir: dir, values: values}
	return r.read(content)
}

func readCapped(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrConfig, name, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrConfig, name, maxFile)
	}
	return b, nil
}

// fileReader walks the file down to the keys of the table, so that an error
// can say on which line it is.
type fileReader struct {
	name   string
	dir    string
	values map[string]Value
}

func (r *fileReader) errorf(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s", ErrConfig, r.name, n.GetToken().Position.Line, fmt.Sprintf(format, args...))
}

func (r *fileReader) read(content []byte) error {
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		// The parser's errors draw a picture over several lines.
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("%w: %s: %s", ErrConfig, r.name, first)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return fmt.Errorf("%w: %s: want one YAML document", ErrConfig, r.name)
	}
	members, err := r.members(file.Docs[0].Body, "")
	if err != nil {
		return err
	}
	var rest []*ast.MappingValueNode
	versioned := false
	for _, m := range members {
		if m.Key.String() != "version" {
			rest = append(rest, m)
			continue
		}
		versioned = true
		if m.Value.String() != fmt.Sprint(Version) {
			return r.errorf(m, "version is %s, want %d", m.Value, Version)
		}
	}
	if !versioned {
		return fmt.Errorf("%w: %s: version is missing, want version: %d", ErrConfig, r.name, Version)
	}
	return r.walk(rest, "")
}

// members are a mapping's entries; the parser gives a mapping of one entry
// another type.
func (r *fileReader) members(n ast.Node, what string) ([]*ast.MappingValueNode, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	default:
		return nil, r.errorf(n, "%s is not a map of keys", strings.TrimSuffix("the file."+what, "."))
	}
}

func (r *fileReader) walk(members []*ast.MappingValueNode, prefix string) error {
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		name := prefix + keyOf(m)
		if seen[name] {
			return r.errorf(m.Key, "key %s is there twice", name)
		}
		seen[name] = true
		if err := r.entry(m, name); err != nil {
			return err
		}
	}
	return nil
}

func keyOf(m *ast.MappingValueNode) string { return m.Key.GetToken().Value }

func (r *fileReader) entry(m *ast.MappingValueNode, name string) error {
	if v, known := r.values[name]; known {
		text, err := scalarOrJSON(m.Value)
		if err != nil {
			return r.errorf(m.Key, "%s: %v", name, err)
		}
		v.Value, v.dir = text, r.dir
		v.Source = fmt.Sprintf("%s:%d", r.name, m.Key.GetToken().Position.Line)
		r.values[name] = v
		return nil
	}
	if !r.isSection(name) {
		return r.errorf(m.Key, "unknown key %s", name)
	}
	inner, err := r.members(m.Value, name)
	if err != nil {
		return err
	}
	return r.walk(inner, name+".")
}

func (r *fileReader) isSection(name string) bool {
	for key := range r.values {
		if strings.HasPrefix(key, name+".") {
			return true
		}
	}
	return false
}

func scalarOrJSON(n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		var v any
		if err := yaml.NodeToValue(n, &v); err != nil {
			return "", errors.New("is not what YAML allows here")
		}
		b, err := json.Marshal(v)
		if err != nil {
			return "", errors.New("has keys that are no text")
		}
		return string(b), nil
	case *ast.NullNode:
		return "", nil
	default:
		var s string
		if err := yaml.NodeToValue(n, &s); err != nil {
			return "", errors.New("is no plain value")
		}
		return s, nil
	}
}

func strictJSON(s string, into any) error {
	if err := strictjson.Unmarshal([]byte(s), into); err != nil {
		return fmt.Errorf("is not as it should be: %w", err)
	}
	return nil
}
