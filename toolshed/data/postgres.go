package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Dial connects to where the toolshed may.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Postgres is a PostgreSQL elsewhere. Each query has a connection of its own:
// what a statement does to its session ends with it, and nothing stays open.
type Postgres struct {
	config *pgconn.Config
	caps   Caps
}

var _ External = (*Postgres)(nil)

// NewPostgres uses a connection string, by libpq's rules.
func NewPostgres(address string, dial Dial, caps Caps) (*Postgres, error) {
	c, err := pgconn.ParseConfig(address)
	if err != nil {
		// The text of the error has the string, with its password.
		return nil, errors.New("it is no connection string of PostgreSQL's")
	}
	c.DialFunc = pgconn.DialFunc(dial)
	// Names are resolved by dial, which judges the address.
	c.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(caps.Bytes + 1<<16)
		return f
	}
	c.RuntimeParams["statement_timeout"] = strconv.FormatInt(caps.Time.Milliseconds(), 10)
	c.RuntimeParams["application_name"] = "toolshed"
	return &Postgres{config: c, caps: caps}, nil
}

// Query runs one statement in a transaction of its own, which only reads where
// writing is not allowed.
func (p *Postgres) Query(ctx context.Context, sql string, parameters []json.RawMessage) (_ Result, err error) {
	if err := checkStatement(sql, parameters); err != nil {
		return Result{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, p.caps.Time)
	defer cancel()
	defer func() {
		if err != nil {
			err = pgFault(ctx, bounded, err)
		}
	}()
	conn, err := pgconn.ConnectConfig(bounded, p.config)
	if err != nil {
		return Result{}, fmt.Errorf("%w: connecting failed", ErrUpstream)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing follows
	begin, end := "BEGIN READ ONLY", "ROLLBACK"
	if p.caps.Write {
		begin, end = "BEGIN", "COMMIT"
	}
	if err := conn.Exec(bounded, begin).Close(); err != nil {
		return Result{}, err
	}
	result, err := p.run(bounded, conn, sql, parameters)
	if err != nil {
		return Result{}, err
	}
	if result.Truncated {
		// What is left of the rows is not waited for: the connection ends, and
		// with it the transaction.
		if p.caps.Write {
			return Result{}, refused("sql", "answers more than %d rows or %d bytes, and so nothing was written: narrow it", p.caps.Rows, p.caps.Bytes)
		}
		return result, nil
	}
	return result, conn.Exec(bounded, end).Close()
}

func (p *Postgres) run(ctx context.Context, conn *pgconn.PgConn, sql string, parameters []json.RawMessage) (Result, error) {
	values := make([][]byte, 0, len(parameters))
	for i, text := range parameters {
		v, err := pgText(text)
		if err != nil {
			return Result{}, &FieldError{fmt.Sprintf("parameters[%d]", i), err}
		}
		values = append(values, v)
	}
	// By the extended protocol, which takes one statement alone.
	r := conn.ExecParams(ctx, sql, values, nil, nil, nil)
	c := collector{caps: p.caps, Result: Result{Columns: []string{}, Rows: [][]json.RawMessage{}}}
	var kinds []uint32
	for _, f := range r.FieldDescriptions() {
		c.Columns = append(c.Columns, f.Name)
		kinds = append(kinds, f.DataTypeOID)
	}
	for r.NextRow() {
		if kinds == nil {
			for _, f := range r.FieldDescriptions() {
				c.Columns, kinds = append(c.Columns, f.Name), append(kinds, f.DataTypeOID)
			}
		}
		row := make([]json.RawMessage, 0, len(kinds))
		for i, v := range r.Values() {
			row = append(row, pgValue(kinds[i], v))
		}
		if !c.add(row) {
			return c.Result, nil
		}
	}
	if kinds == nil {
		for _, f := range r.FieldDescriptions() {
			c.Columns = append(c.Columns, f.Name)
		}
	}
	tag, err := r.Close()
	if err != nil {
		return Result{}, err
	}
	if tag.Insert() || tag.Update() || tag.Delete() {
		c.Changed = tag.RowsAffected()
	}
	return c.Result, nil
}

// pgText is a JSON value as PostgreSQL reads it for whatever type it has found
// for the parameter; nil for NULL.
func pgText(text json.RawMessage) ([]byte, error) {
	value, kind, err := scalar(text)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "null":
		return nil, nil
	case "text":
		return []byte(value.(string)), nil
	}
	return slices.Clone(text), nil
}

// The types of PostgreSQL that JSON has words for; the rest is text.
const (
	oidBool    = 16
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidOID     = 26
	oidJSON    = 114
	oidFloat4  = 700
	oidFloat8  = 701
	oidNumeric = 1700
	oidJSONB   = 3802
)

func pgValue(kind uint32, text []byte) json.RawMessage {
	if text == nil {
		return json.RawMessage("null")
	}
	switch kind {
	case oidBool:
		return encoded(string(text) == "t")
	case oidInt2, oidInt4, oidInt8, oidOID, oidFloat4, oidFloat8, oidNumeric, oidJSON, oidJSONB:
		// NaN and Infinity are none of JSON's.
		if json.Valid(text) {
			return slices.Clone(text)
		}
	}
	return encoded(string(text))
}

// pgFault says whose fault it is. The server's own words are about the
// statement, which is the caller's.
func pgFault(ctx, bounded context.Context, err error) error {
	if _, ok := errors.AsType[*FieldError](err); ok {
		return err
	}
	if ctx.Err() == nil && bounded.Err() != nil {
		return ErrSlow
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case e.Code == "57014":
			return ErrSlow
		case e.Code == "25006":
			return refused("sql", "would write, and this database is for reading alone")
		case len(e.Code) == 5 && e.Code[:2] != "08" && e.Code[:2] != "53" && e.Code[:2] != "57" && e.Code[:2] != "58" && e.Code[:2] != "XX":
			return refused("sql", "%.500s (%s)", e.Message, e.Code)
		}
		return fmt.Errorf("%w: %s", ErrUpstream, e.Code)
	}
	if errors.Is(err, ErrUpstream) {
		return err
	}
	return fmt.Errorf("%w: the connection broke", ErrUpstream)
}
