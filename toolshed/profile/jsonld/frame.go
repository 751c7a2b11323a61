package jsonld

import (
	"slices"
	"strings"

	"github.com/piprate/json-gold/ld"
)

// maxMade bounds what framing makes: values, and defaults of what is missing.
const maxMade = 100_000

// Frame writes an expanded document in the shape of a frame. The error is
// ErrDocument.
func Frame(expanded []any, frame map[string]any) (map[string]any, error) {
	o := options()
	o.ProcessingMode = ld.JsonLd_1_1_Frame
	shape, err := guarded(func(p *ld.JsonLdProcessor) ([]any, error) { return p.Expand(frame, o) })
	if err != nil {
		return nil, err
	}
	f := framing{nodes: map[string]map[string]any{}}
	if err := f.look(shape); err != nil {
		return nil, err
	}
	if !f.within(expanded, shape) {
		return nil, refused("frame: it makes more than %d values, since each node that it finds is written with what it leads to: frame one entity, or less", maxMade)
	}
	return guarded(func(p *ld.JsonLdProcessor) (map[string]any, error) {
		o := options()
		o.ProcessingMode = ld.JsonLd_1_1
		return p.Frame(expanded, frame, o)
	})
}

// framing is what decides how much a frame makes.
type framing struct {
	// keys are the most of one of the frame's objects, and anywhere says that it
	// leads also to what a node does not have.
	keys     int
	anywhere bool
	nodes    map[string]map[string]any
}

// look looks at a frame. Where nodes are embedded wherever they are found, and
// not once, what is made grows with the ways between them.
func (f *framing) look(v any) error {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			if err := f.look(one); err != nil {
				return err
			}
		}
	case map[string]any:
		f.keys = max(f.keys, len(v))
		for key, one := range v {
			if key == "@embed" && (has(one, "@always") || has(one, "@last")) {
				return refused("frame: @embed: want @once or @never")
			}
			f.anywhere = f.anywhere || key == "@reverse" || key == "@included" || key == "@graph"
			if err := f.look(one); err != nil {
				return err
			}
		}
	}
	return nil
}

// has reports whether a text is somewhere in a value.
func has(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case []any:
		return slices.ContainsFunc(v, func(one any) bool { return has(one, text) })
	case map[string]any:
		for _, one := range v {
			if has(one, text) {
				return true
			}
		}
	}
	return false
}

// within reports whether a document is made into no more than may be.
func (f *framing) within(expanded, shape []any) bool {
	for _, one := range expanded {
		if node, ok := one.(map[string]any); ok {
			id, _ := node["@id"].(string)
			f.nodes[id] = node
		}
	}
	made := 0
	for id, node := range f.nodes {
		if !wanted(shape, node) {
			continue
		}
		seen := map[string]bool{id: true}
		for waiting := []string{id}; len(waiting) > 0; waiting = waiting[1:] {
			made += f.keys + values(f.nodes[waiting[0]], 0)
			if f.anywhere {
				// All nodes are looked at for each.
				made += len(f.nodes)
			}
			if made > maxMade {
				return false
			}
			if len(seen) == len(f.nodes) {
				continue
			}
			f.reach(f.nodes[waiting[0]], func(id string) {
				if !seen[id] {
					seen[id] = true
					waiting = append(waiting, id)
				}
			})
		}
	}
	return true
}

// reach finds the nodes that a node leads to.
func (f *framing) reach(v any, found func(id string)) {
	if f.anywhere {
		for id := range f.nodes {
			found(id)
		}
		return
	}
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			f.reach(one, found)
		}
	case map[string]any:
		if id, ok := v["@id"].(string); ok && f.nodes[id] != nil {
			found(id)
		}
		for key, one := range v {
			if !strings.HasPrefix(key, "@") || key == "@list" {
				f.reach(one, found)
			}
		}
	}
}

// wanted reports whether a frame may find a node: an @id and a @type decide, and
// all else only finds less.
func wanted(shape []any, node map[string]any) bool {
	if len(shape) == 0 {
		return true
	}
	frame, _ := shape[0].(map[string]any)
	for _, key := range []string{"@id", "@type"} {
		var texts []string
		values, many := frame[key].([]any)
		if !many && frame[key] != nil {
			values = []any{frame[key]}
		}
		for _, v := range values {
			if text, ok := v.(string); ok {
				texts = append(texts, text)
			}
		}
		if len(texts) == 0 || len(texts) < len(values) {
			continue
		}
		return slices.ContainsFunc(texts, func(text string) bool { return has(node[key], text) })
	}
	return true
}
