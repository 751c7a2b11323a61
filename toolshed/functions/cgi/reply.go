package cgi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The bounds of a reply's header.
const (
	maxHeaderBytes = 64 << 10
	maxFields      = 100
)

// ErrReply says that an output is no reply.
var ErrReply = errors.New("the output is no CGI reply")

// Reply is what a script answered.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// dropped are the fields that the server says by itself.
var dropped = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Content-Length", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc",
}

// Parse reads a reply: fields, an empty line, and a body (RFC 3875, section 6).
// One of Content-Type, Location and Status has to be there. The error is
// ErrReply.
func Parse(output []byte) (Reply, error) {
	r := Reply{Header: http.Header{}}
	rest := output
	for n := 0; ; n++ {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found || len(output)-len(after) > maxHeaderBytes || n > maxFields {
			return Reply{}, fmt.Errorf("%w: its header does not end", ErrReply)
		}
		rest = after
		text := strings.TrimSuffix(string(line), "\r")
		if text == "" {
			break
		}
		if err := r.field(text); err != nil {
			return Reply{}, fmt.Errorf("%w: line %d: %w", ErrReply, n+1, err)
		}
	}
	r.Body = rest
	return r, r.complete()
}

func (r *Reply) field(line string) error {
	name, value, found := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return errors.New("want NAME: VALUE")
	}
	name = http.CanonicalHeaderKey(name)
	switch {
	case name == "Status":
		return r.status(value)
	case slices.Contains(dropped, name), strings.HasPrefix(name, "Shed-"):
	case name == "Set-Cookie" && ofDomain(value):
	case (name == "Content-Type" || name == "Location") && r.Header.Get(name) != "":
		return fmt.Errorf("%s is there twice", name)
	default:
		r.Header.Add(name, value)
	}
	return nil
}

func (r *Reply) status(value string) error {
	digits, _, _ := strings.Cut(value, " ")
	code, err := strconv.Atoi(digits)
	if r.Status != 0 || err != nil || len(digits) != 3 || code < 200 || code > 599 {
		return errors.New("want one Status, from 200 to 599")
	}
	r.Status = code
	return nil
}

// ofDomain tells a cookie that would be shown to other origins.
func ofDomain(cookie string) bool {
	for part := range strings.SplitSeq(cookie, ";") {
		name, _, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(name), "Domain") {
			return true
		}
	}
	return false
}

func (r *Reply) complete() error {
	location := r.Header.Get("Location")
	switch {
	case r.Status == 0 && location != "":
		r.Status = http.StatusFound
	case r.Status == 0 && r.Header.Get("Content-Type") == "":
		return fmt.Errorf("%w: it has no Content-Type, Location or Status", ErrReply)
	case r.Status == 0:
		r.Status = http.StatusOK
	}
	return nil
}
