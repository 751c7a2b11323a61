// Package functions keeps the owner's WebAssembly functions and runs them.
//
// Invariants: what is kept of a module is whole, was compiled once, and never
// changes; a function reaches its own keys and the hosts that its owner named,
// and no other function's; how much it may do is bounded for each call and for
// all of them together; what a call cost is accounted, whether it failed or not;
// a secret is never answered again.
package functions

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
)

// The bounds of what is kept.
const (
	MaxFunctions = 200
	// MaxVersions are kept of a function; the oldest goes.
	MaxVersions    = 10
	MaxBodyBytes   = 4 << 20
	maxOutputBytes = 8 << 20
	maxTime        = 5 * time.Minute
	maxSecrets     = 64
	maxSecretBytes = 16 << 10
	maxVariables   = 64
	maxHosts       = 32
)

// The sentinels of the functions.
var (
	ErrNotFound = errors.New("no such function")
	ErrVersion  = errors.New("no such version")
	ErrSecret   = errors.New("no such secret")
	ErrTooMany  = errors.New("there are as many functions as may be")
	// ErrQuota says that no more modules are kept.
	ErrQuota = errors.New("the modules have as many bytes as they may")
	// ErrBusy says that a function, or all of them, do as much as they may.
	ErrBusy = errors.New("as many calls as may be are under way, or were made this minute")
)

// FieldError is a setting that makes no sense.
type FieldError struct {
	Field, Reason string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// Limits bound one function.
type Limits struct {
	TimeMS      int64 `json:"time_ms,omitempty" minimum:"1" maximum:"300000" doc:"of a call; 10000 where it is missing"`
	MemoryBytes int64 `json:"memory_bytes,omitempty" minimum:"65536" maximum:"134217728" doc:"of a call; 64 MiB where it is missing"`
	OutputBytes int64 `json:"output_bytes,omitempty" minimum:"1" maximum:"8388608" doc:"of a call; 1 MiB where it is missing"`
	Concurrent  int   `json:"concurrent,omitempty" minimum:"1" maximum:"64" doc:"calls at once; 4 where it is missing"`
	PerMinute   int   `json:"per_minute,omitempty" minimum:"1" maximum:"100000" doc:"calls a minute; 600 where it is missing"`
	HostCalls   int64 `json:"host_calls,omitempty" minimum:"1" maximum:"10000" doc:"of a call; 1000 where it is missing"`
}

var defaultLimits = Limits{TimeMS: 10_000, MemoryBytes: 64 << 20, OutputBytes: 1 << 20, Concurrent: 4, PerMinute: 600, HostCalls: 1000}

// The ways that a function's output is read.
const (
	OutputAuto  = "auto"
	OutputCGI   = "cgi"
	OutputPlain = "plain"
)

// Settings are what the owner says of a function.
type Settings struct {
	Environment map[string]string `json:"environment,omitempty" doc:"variables that it sees"`
	Limits      Limits            `json:"limits,omitempty"`
	Public      bool              `json:"public,omitempty" doc:"whether anybody may call it on its own origin"`
	Output      string            `json:"output,omitempty" enum:"auto,cgi,plain" doc:"how its output is read: as a CGI reply, plainly, or as what it looks like"`
	KV          bool              `json:"kv,omitempty" doc:"whether it may use its own keys"`
	Fetch       []string          `json:"fetch,omitempty" maxItems:"32" doc:"the hosts that it may fetch from: NAME, NAME:PORT or *.NAME"`
	Schedule    string            `json:"schedule,omitempty" maxLength:"100" doc:"when it runs by itself: five fields as cron has them, in UTC"`
	Queue       string            `json:"queue,omitempty" maxLength:"64" doc:"the queue whose messages it takes"`
}

// Function is one that is kept.
type Function struct {
	Name      string    `json:"name"`
	Version   int64     `json:"version" doc:"the one that is called"`
	Settings  Settings  `json:"settings"`
	Secrets   []string  `json:"secrets" doc:"their names; their values are never answered"`
	Account   Account   `json:"account"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Account is what a function has cost.
type Account struct {
	Calls     int64 `json:"calls"`
	Failures  int64 `json:"failures"`
	TimeUS    int64 `json:"time_us" doc:"execution time, in microseconds"`
	HostCalls int64 `json:"host_calls"`
	PeakBytes int64 `json:"peak_memory_bytes" doc:"the most memory that a call had"`
}

// Version is one module of a function.
type Version struct {
	Version   int64     `json:"version"`
	SHA256    string    `json:"sha256"`
	Size      int64     `json:"size_bytes"`
	CreatedAt time.Time `json:"created_at"`
}

var (
	validName     = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	validHost     = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	validQueue    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return &FieldError{"name", "want a label of a host's name: lower case letters, digits and hyphens, at most 63"}
	}
	return nil
}

// ofRequests are the variables beside HTTP_… that a request brings
// (RFC 3875, section 4.1).
var ofRequests = []string{
	"CONTENT_LENGTH", "CONTENT_TYPE", "GATEWAY_INTERFACE", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD",
	"SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
}

func checkVariable(field, name, value string) error {
	if !validVariable.MatchString(name) {
		return &FieldError{field, fmt.Sprintf("%.70q is no variable's name", name)}
	}
	if strings.HasPrefix(name, "HTTP_") || slices.Contains(ofRequests, name) {
		// Whoever calls would say what it is.
		return &FieldError{field, fmt.Sprintf("%.70q is a variable of requests", name)}
	}
	if strings.ContainsRune(value, 0) || len(value) > maxSecretBytes {
		return &FieldError{field + "." + name, fmt.Sprintf("want at most %d bytes, none of them zero", maxSecretBytes)}
	}
	return nil
}

// check fills in what is missing. Errors are a *FieldError.
func (s *Settings) check(now time.Time) error {
	s.Limits = s.Limits.withDefaults()
	if len(s.Environment) > maxVariables {
		return &FieldError{"environment", fmt.Sprintf("want at most %d variables", maxVariables)}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		if err := checkVariable("environment", name, s.Environment[name]); err != nil {
			return err
		}
	}
	if s.Output == "" {
		s.Output = OutputAuto
	}
	if len(s.Fetch) > maxHosts {
		return &FieldError{"fetch", fmt.Sprintf("want at most %d hosts", maxHosts)}
	}
	for i, host := range s.Fetch {
		s.Fetch[i] = strings.ToLower(host)
		if !isHost(s.Fetch[i]) {
			return &FieldError{fmt.Sprintf("fetch[%d]", i), "want NAME, NAME:PORT or *.NAME"}
		}
	}
	if s.Queue != "" && !validQueue.MatchString(s.Queue) {
		return &FieldError{"queue", "want letters, digits, dots, hyphens and underscores"}
	}
	if s.Schedule != "" {
		if _, err := next(s.Schedule, now); err != nil {
			return &FieldError{"schedule", err.Error()}
		}
	}
	return nil
}

func isHost(text string) bool {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	return validHost.MatchString(text)
}

func (l Limits) withDefaults() Limits {
	d := defaultLimits
	for _, f := range []struct {
		is     *int64
		unless int64
		most   int64
	}{
		{&l.TimeMS, d.TimeMS, maxTime.Milliseconds()}, {&l.MemoryBytes, d.MemoryBytes, sandbox.MaxMemoryBytes},
		{&l.OutputBytes, d.OutputBytes, maxOutputBytes}, {&l.HostCalls, d.HostCalls, 10_000},
	} {
		if *f.is <= 0 {
			*f.is = f.unless
		}
		*f.is = min(*f.is, f.most)
	}
	if l.Concurrent <= 0 {
		l.Concurrent = d.Concurrent
	}
	if l.PerMinute <= 0 {
		l.PerMinute = d.PerMinute
	}
	return l
}
