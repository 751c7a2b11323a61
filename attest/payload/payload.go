// Package payload is what a release declares of the server that its machines
// run: how it is started, where it answers, what it may use, and whom it may
// reach.
//
// Invariants: the declaration is measured, since its canonical bytes are a file of
// the image; Parse reads what Encode wrote and nothing else; a field left unset
// is an error, and what is not granted is refused; no declaration grants an
// address of Never.
package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// MaxBytes caps an encoded declaration.
const MaxBytes = 64 << 10

// ErrSpec says that a declaration is not one that a machine could keep.
var ErrSpec = errors.New("unusable payload declaration")

// The fixed places of a payload's root.
const (
	// DataPath is what it may write and keep, SocketDir where its socket is.
	DataPath  = "/data"
	SocketDir = "/run/payload"
	// User is the user and group that a payload runs as where nothing else is
	// declared.
	User = 1000
)

// Spec declares one payload.
type Spec struct {
	// Command is the program, a path in the payload's root, and its arguments.
	Command []string `json:"command"`
	// Environment is NAME=value, sorted by name. The machine adds SHED_… of its own.
	Environment []string `json:"environment,omitempty"`
	// User is the number of its user and of its group.
	User int `json:"user"`
	// Health is the path that answers 200 while it serves.
	Health string `json:"health"`
	Listen Listen `json:"listen"`
	Limits Limits `json:"limits"`
	// Network is whom it may reach.
	Network Network `json:"network"`
}

// Listen is where a payload answers HTTP: one of the two.
type Listen struct {
	// Socket is a Unix socket in SocketDir.
	Socket string `json:"socket,omitempty"`
	// Port is a TCP port of the loopback address that is the payload's.
	Port int `json:"port,omitempty"`
}

// Limits are what it may use of its machine.
type Limits struct {
	// MemoryBytes is zero for all that the machine has.
	MemoryBytes int64 `json:"memory_bytes"`
	// Processes counts threads too.
	Processes int `json:"processes"`
	OpenFiles int `json:"open_files"`
}

// Right is how much of the network a payload may reach, but for Never.
type Right string

// The rights.
const (
	// Off is no network at all.
	Off Right = "off"
	// Listed is the hosts and ports named, and no other.
	Listed Right = "listed"
	// Open is all.
	Open Right = "open"
)

// Network is an outbound right.
type Network struct {
	Right Right `json:"right"`
	// Hosts are those of Listed, sorted.
	Hosts []Host `json:"hosts,omitempty"`
}

// Default is what is declared of a payload where its maker says nothing else.
func Default() Spec {
	return Spec{
		User: User, Health: "/", Listen: Listen{Socket: SocketDir + "/http.sock"},
		Limits: Limits{Processes: 1024, OpenFiles: 4096}, Network: Network{Right: Off},
	}
}

// Toolshed is the declaration of the toolshed, which is the payload where no
// other was built in.
func Toolshed() Spec {
	s := Default()
	s.Command, s.Health, s.Network.Right = []string{"/bin/toolshed"}, "/api/health", Open
	return s
}

// Encode returns the canonical bytes: indented JSON, a newline at the end. The
// error is ErrSpec.
func (s *Spec) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b, err := s.marshal()
	if err == nil && len(b) > MaxBytes {
		return nil, unusable("it has %d bytes, at most %d", len(b), MaxBytes)
	}
	return b, err
}

func (s *Spec) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the payload declaration: %w", err)
	}
	return append(b, '\n'), nil
}

// Parse reads what Encode wrote. The error is ErrSpec.
func Parse(b []byte) (*Spec, error) {
	if len(b) > MaxBytes {
		return nil, unusable("it has %d bytes, at most %d", len(b), MaxBytes)
	}
	var s Spec
	if err := strictjson.Unmarshal(b, &s); err != nil {
		return nil, unusable("%w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	again, err := s.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, unusable("it is not in its canonical form")
	}
	return &s, nil
}

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrSpec, fmt.Errorf(format, args...))
}
