// Package cgi speaks the Common Gateway Interface (RFC 3875): a request as
// meta-variables, a script's output as a reply.
//
// Invariants: a script sees no credentials of the caller's and nothing that its
// environment could be mistaken for; a reply is whole and well-formed, or none;
// what concerns the connection, or a whole domain, is not a script's to say.
package cgi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxVariables bounds the meta-variables of one request, in bytes.
const maxVariables = 64 << 10

var (
	// ErrTooLong says that a request's header is too long for a script.
	ErrTooLong = errors.New("the header is too long")
	// ErrPath says that a path cannot be a variable.
	ErrPath = errors.New("path: has a zero byte")
)

// secret are the fields that a script does not get: who asks is none of its
// business (RFC 3875, section 9.2), Proxy would be read as a setting, and the
// rest is of the connection.
var secret = []string{
	"Authorization", "Proxy-Authorization", "Proxy", "Connection", "Keep-Alive", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Content-Length", "Content-Type",
}

// Request is a request for a script.
type Request struct {
	*http.Request
	// Script is the part of the path that named the script, Path the rest.
	Script, Path string
	// Software names the server.
	Software string
	// Length is that of the body.
	Length int
}

// Variables are the meta-variables, as NAME=VALUE. Errors are ErrTooLong and
// ErrPath.
func (r Request) Variables() ([]string, error) {
	if strings.ContainsRune(r.Path, 0) {
		return nil, ErrPath
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, "80"
	}
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = ""
	}
	all := []string{
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_PROTOCOL=" + r.Proto, "SERVER_SOFTWARE=" + r.Software,
		"SERVER_NAME=" + host, "SERVER_PORT=" + port, "REMOTE_ADDR=" + remote,
		"REQUEST_METHOD=" + r.Method, "SCRIPT_NAME=" + r.Script, "PATH_INFO=" + r.Path, "QUERY_STRING=" + r.URL.RawQuery,
	}
	if r.Length > 0 {
		all = append(all, "CONTENT_LENGTH="+strconv.Itoa(r.Length))
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		all = append(all, "CONTENT_TYPE="+kind)
	}
	for name, values := range r.Header {
		// A name with an underscore would be read as the one with a hyphen.
		if slices.Contains(secret, name) || strings.HasPrefix(name, "Shed-") || strings.Contains(name, "_") {
			continue
		}
		joint := ", "
		if name == "Cookie" {
			joint = "; "
		}
		all = append(all, "HTTP_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+strings.Join(values, joint))
	}
	size := 0
	for _, v := range all {
		size += len(v)
	}
	if size > maxVariables {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, size, maxVariables)
	}
	return all, nil
}
