package kv

import (
	"errors"
	"slices"
	"strings"
)

// tags is a list of entity tags, as the conditional headers hold it (RFC 9110,
// sections 8.8.3 and 13.1).
type tags struct {
	// any is "*".
	any  bool
	list []tag
}

type tag struct {
	weak   bool
	opaque string
}

var errTags = errors.New(`want * or a list of entity tags like "17"`)

// parseTags reads one header's value, its lines joined by commas. Empty
// elements are passed over, a list of nothing else is refused.
func parseTags(s string) (tags, error) {
	s = strings.Trim(s, " \t")
	if s == "*" {
		return tags{any: true}, nil
	}
	var t tags
	for s != "" {
		if s[0] == ',' {
			s = strings.TrimLeft(s[1:], " \t")
			continue
		}
		one, rest, err := parseTag(s)
		if err != nil {
			return tags{}, err
		}
		t.list = append(t.list, one)
		s = strings.TrimLeft(rest, " \t")
		if s != "" && s[0] != ',' {
			return tags{}, errTags
		}
	}
	if t.list == nil {
		return tags{}, errTags
	}
	return t, nil
}

func parseTag(s string) (t tag, rest string, err error) {
	s, t.weak = strings.CutPrefix(s, "W/")
	s, quoted := strings.CutPrefix(s, `"`)
	opaque, rest, closed := strings.Cut(s, `"`)
	if !quoted || !closed || strings.ContainsFunc(opaque, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return tag{}, "", errTags
	}
	t.opaque = opaque
	return t, rest, nil
}

// matches compares with a version, 0 being a missing key: strongly, as
// If-Match wants it, or weakly, as If-None-Match does.
func (t tags) matches(version int64, strong bool) bool {
	if version == 0 {
		return false
	}
	return t.any || slices.ContainsFunc(t.list, func(one tag) bool {
		return etag(version) == `"`+one.opaque+`"` && (!strong || !one.weak)
	})
}
