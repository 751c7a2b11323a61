package key

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A key in an address is its parts between slashes. A string stands as it is;
// what is none, is empty, or would be taken for another begins with ~, a letter
// for the type, and a colon.
const (
	markString = "~s:"
	markBytes  = "~x:"
	markInt    = "~i:"
	markDouble = "~n:"
	markBool   = "~b:"
)

// maxIntDigits is more than an integer of 255 bytes has.
const maxIntDigits = 640

// Text is the key as a path, escaped, without a slash before it.
func (k Key) Text() string {
	segments := make([]string, len(k))
	for i, part := range k {
		segments[i] = escapeSegment(segment(part))
	}
	return strings.Join(segments, "/")
}

// escapeSegment escapes what is escaped in a path, and a segment of dots, which
// would lead elsewhere.
func escapeSegment(s string) string {
	if s == "." || s == ".." {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func segment(part Part) string {
	switch v := part.(type) {
	case string:
		if v == "" || marked(v) {
			return markString + v
		}
		return v
	case []byte:
		return markBytes + base64.RawURLEncoding.EncodeToString(v)
	case *big.Int:
		return markInt + v.String()
	case float64:
		return markDouble + formatDouble(v)
	case bool:
		return markBool + strconv.FormatBool(v)
	}
	return ""
}

func marked(s string) bool {
	if len(s) < len(markString) {
		return false
	}
	switch s[:len(markString)] {
	case markString, markBytes, markInt, markDouble, markBool:
		return true
	}
	return false
}

// ParseText reads a key from a path, escaped as it came. An empty one is the
// empty key.
func ParseText(path string) (Key, error) {
	if path == "" {
		return Key{}, nil
	}
	if n := strings.Count(path, "/"); n >= MaxParts {
		return nil, fmt.Errorf("%w: it has %d parts, at most %d", ErrBroken, n+1, MaxParts)
	}
	var k Key
	for escaped := range strings.SplitSeq(path, "/") {
		s, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w: %w", len(k), ErrBroken, err)
		}
		part, err := parseSegment(s)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", len(k), err)
		}
		k = append(k, part)
	}
	return k, nil
}

func parseSegment(s string) (Part, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrBroken)
	}
	if s == "" {
		return nil, fmt.Errorf("%w: an empty string is written %s", ErrBroken, markString)
	}
	if !marked(s) {
		return s, nil
	}
	mark, rest := s[:len(markString)], s[len(markString):]
	switch mark {
	case markBytes:
		b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: want base64url behind %s", ErrBroken, mark)
		}
		return b, nil
	case markInt:
		return parseInt(rest)
	case markDouble:
		return parseDouble(rest)
	case markBool:
		if rest != "true" && rest != "false" {
			return nil, fmt.Errorf("%w: want true or false behind %s", ErrBroken, mark)
		}
		return rest == "true", nil
	}
	return rest, nil
}

func parseInt(s string) (*big.Int, error) {
	v, ok := new(big.Int), len(s) <= maxIntDigits
	if ok {
		v, ok = v.SetString(s, 10)
	}
	if !ok {
		return nil, fmt.Errorf("%w: want an integer in decimal digits", ErrBroken)
	}
	return v, nil
}

// negativeNaN is how the second of the two NaN is written.
const negativeNaN = "-NaN"

func formatDouble(f float64) string {
	if math.IsNaN(f) && math.Signbit(f) {
		return negativeNaN
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func parseDouble(s string) (float64, error) {
	if s == negativeNaN {
		return math.Copysign(math.NaN(), -1), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: want a number", ErrBroken)
	}
	return f, nil
}
