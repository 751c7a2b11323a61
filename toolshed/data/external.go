package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The bounds of an external query.
const (
	MaxSQLBytes   = 64 << 10
	MaxParameters = 100
)

// ErrUpstream says that an external database cannot be reached, or failed.
var ErrUpstream = errors.New("the external database failed")

// Result is what an external query answered.
type Result struct {
	Columns []string            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	// Truncated says that there were more rows than are answered.
	Truncated bool `json:"truncated,omitempty"`
	// Changed is how many rows were written.
	Changed int64 `json:"changed,omitempty"`
}

// Caps bound an external query.
type Caps struct {
	Rows  int
	Bytes int
	Time  time.Duration
	// Write allows it to change something.
	Write bool
}

// External is a database elsewhere.
type External interface {
	// Query runs one statement with parameters. Errors are a *FieldError where
	// the statement is wrong, ErrSlow and ErrUpstream.
	Query(ctx context.Context, sql string, parameters []json.RawMessage) (Result, error)
}

// collector takes rows until a cap is reached.
type collector struct {
	caps  Caps
	bytes int
	Result
}

// add reports whether more rows are wanted.
func (c *collector) add(row []json.RawMessage) bool {
	for _, v := range row {
		c.bytes += len(v)
	}
	if len(c.Rows) == c.caps.Rows || c.bytes > c.caps.Bytes {
		c.Truncated = true
		return false
	}
	c.Rows = append(c.Rows, row)
	return true
}

func checkStatement(sql string, parameters []json.RawMessage) error {
	if len(sql) == 0 || len(sql) > MaxSQLBytes {
		return refused("sql", "has %d bytes, want 1 to %d", len(sql), MaxSQLBytes)
	}
	if len(parameters) > MaxParameters {
		return refused("parameters", "there are %d, at most %d", len(parameters), MaxParameters)
	}
	return nil
}

// encoded is a value as JSON; text where JSON has no word for it.
func encoded(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return encoded(fmt.Sprint(v))
	}
	return bytes.TrimSpace(b.Bytes())
}
