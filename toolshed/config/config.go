// Package config reads the one file of the toolshed.
//
// Invariants: the file says its version; a key that nobody knows is an error,
// as is one that is there twice; anchors and aliases are refused; nothing
// secret stands in the file, which names where it is instead.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Version is the only version of the file that is read.
const Version = 1

// FileName is the file's in the data directory, where no other is named.
const FileName = "toolshed.yaml"

// The bounds of the file.
const (
	maxFile    = 64 << 10
	maxNesting = 16
	maxSecret  = 64 << 10
)

// ErrConfig says that the configuration cannot be used; the message names the
// key.
var ErrConfig = errors.New("configuration")

// Config is one file, of which each part of the toolshed takes its section.
type Config struct {
	name, dir string
	env       func(string) (string, bool)
	sections  map[string]ast.Node
	taken     []string
}

// Empty is a configuration that says nothing.
func Empty() *Config {
	return &Config{env: func(string) (string, bool) { return "", false }}
}

// Load reads a file. One that is missing is fine where it is not wanted. Errors
// are ErrConfig.
func Load(path string, wanted bool, env func(string) (string, bool)) (*Config, error) {
	b, err := readCapped(path, maxFile)
	if errors.Is(err, os.ErrNotExist) && !wanted {
		c := Empty()
		c.env = env
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c := &Config{name: path, dir: filepath.Dir(path), env: env}
	if err := c.parse(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return c, nil
}

func readCapped(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}

func (c *Config) parse(b []byte) error {
	if err := checkNesting(b); err != nil {
		return err
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return fmt.Errorf("no YAML: %s", yaml.FormatError(err, false, false))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return errors.New("want one document that begins with version: 1")
	}
	for _, kind := range []ast.NodeType{ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType} {
		if found := ast.Filter(kind, file.Docs[0]); len(found) > 0 {
			return fmt.Errorf("line %d: anchors, aliases, tags and merges are not read", found[0].GetToken().Position.Line)
		}
	}
	sections, err := top(file.Docs[0].Body)
	if err != nil {
		return err
	}
	c.sections = sections
	var version int
	if err := c.Section("version", &version); err != nil || version != Version {
		return fmt.Errorf("version: want %d", Version)
	}
	return nil
}

// top is the keys of the first level.
func top(body ast.Node) (map[string]ast.Node, error) {
	var values []*ast.MappingValueNode
	switch n := body.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, errors.New("want keys with values")
	}
	sections := make(map[string]ast.Node, len(values))
	for _, v := range values {
		// The parser refuses one that is there twice.
		sections[v.Key.String()] = v.Value
	}
	return sections, nil
}

// Section reads a key of the first level into a value with yaml tags; where the
// file has none the value stays as it is. Errors are ErrConfig.
func (c *Config) Section(name string, into any) error {
	c.taken = append(c.taken, name)
	node, ok := c.sections[name]
	if !ok {
		return nil
	}
	if err := yaml.NodeToValue(node, into, yaml.Strict()); err != nil {
		return fmt.Errorf("%w: %s: %s: %s", ErrConfig, c.name, name, yaml.FormatError(err, false, false))
	}
	return nil
}

// Unknown is an ErrConfig that names a key that nobody took, and nil where there
// is none. It is asked once every part has its section.
func (c *Config) Unknown() error {
	var unknown []string
	for name, node := range c.sections {
		if !slices.Contains(c.taken, name) {
			unknown = append(unknown, fmt.Sprintf("%s (line %d)", name, node.GetToken().Position.Line))
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("%w: %s: unknown: %s", ErrConfig, c.name, strings.Join(unknown, ", "))
}

// Secret names where a secret is, as {env: NAME} or {file: PATH}.
type Secret struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// IsZero reports whether none is named.
func (s Secret) IsZero() bool { return s == Secret{} }

// Secret reads one. A file's path is relative to the configuration's; white
// space at its end does not count. Errors are ErrConfig.
func (c *Config) Secret(s Secret) (string, error) {
	switch {
	case (s.Env == "") == (s.File == ""):
		return "", fmt.Errorf("%w: a secret: want either env or file", ErrConfig)
	case s.Env != "":
		text, ok := c.env(s.Env)
		if !ok || text == "" {
			return "", fmt.Errorf("%w: a secret: the environment has no %s", ErrConfig, s.Env)
		}
		return text, nil
	}
	path := s.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.dir, path)
	}
	b, err := readCapped(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("%w: a secret: %w", ErrConfig, err)
	}
	text := strings.TrimRight(string(b), " \t\r\n")
	if text == "" {
		return "", fmt.Errorf("%w: a secret: %s is empty", ErrConfig, path)
	}
	return text, nil
}

// checkNesting bounds how deep the parser has to go: in brackets, and in
// indentation, which cannot be deeper than a line is long.
func checkNesting(b []byte) error {
	depth, deepest := 0, 0
	for line := range strings.Lines(string(b)) {
		for _, r := range line {
			switch r {
			case '[', '{':
				depth++
				deepest = max(deepest, depth)
			case ']', '}':
				depth = max(depth-1, 0)
			}
		}
		indent := len(line) - len(strings.TrimLeft(line, " -?"))
		if deepest > maxNesting || indent > 4*maxNesting {
			return fmt.Errorf("nested more than %d deep", maxNesting)
		}
	}
	return nil
}
