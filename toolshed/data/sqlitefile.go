package data

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLiteFile is a file of SQLite's beside the toolshed's own.
type SQLiteFile struct {
	Path string
	Caps Caps
}

var _ External = (*SQLiteFile)(nil)

// Query runs one statement. No other file can be attached, so that it reaches
// this one alone.
func (f *SQLiteFile) Query(ctx context.Context, text string, parameters []json.RawMessage) (Result, error) {
	if err := checkStatement(text, parameters); err != nil {
		return Result{}, err
	}
	args := make([]any, 0, len(parameters))
	for i, p := range parameters {
		value, kind, err := scalar(p)
		if err != nil {
			return Result{}, &FieldError{fmt.Sprintf("parameters[%d]", i), err}
		}
		if kind == "true" || kind == "false" {
			value = kind == "true"
		}
		args = append(args, value)
	}
	bounded, cancel := context.WithTimeout(ctx, f.Caps.Time)
	defer cancel()
	conn, close, err := f.open(bounded)
	if err != nil {
		return Result{}, err
	}
	defer close()
	result, err := f.run(bounded, conn, text, args)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return Result{}, ErrSlow
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		if e.Code()&0xff == sqlite3.SQLITE_READONLY {
			return Result{}, refused("sql", "would write, and this database is for reading alone")
		}
		return Result{}, refused("sql", "%.500s", e.Error())
	}
	if err != nil {
		return Result{}, &FieldError{"sql", err}
	}
	return result, nil
}

func (f *SQLiteFile) open(ctx context.Context) (_ *sql.Conn, close func(), err error) {
	query := url.Values{"_pragma": {"busy_timeout(2000)", "trusted_schema(0)"}, "mode": {"ro"}}
	if f.Caps.Write {
		query["mode"] = []string{"rw"}
	} else {
		query["_pragma"] = append(query["_pragma"], "query_only(1)")
	}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(f.Path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: opening the file failed", ErrUpstream)
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		pool.Close() //nolint:errcheck // it has nothing open
		return nil, nil, fmt.Errorf("%w: opening the file failed", ErrUpstream)
	}
	close = func() { conn.Close(); pool.Close() } //nolint:errcheck // what was written is committed
	for _, limit := range [][2]int{{sqlite3.SQLITE_LIMIT_ATTACHED, 0}, {sqlite3.SQLITE_LIMIT_LENGTH, f.Caps.Bytes}, {sqlite3.SQLITE_LIMIT_SQL_LENGTH, MaxSQLBytes}} {
		if _, err := sqlite.Limit(conn, limit[0], limit[1]); err != nil {
			close()
			return nil, nil, fmt.Errorf("%w: limiting the connection failed", ErrUpstream)
		}
	}
	return conn, close, nil
}

func (f *SQLiteFile) run(ctx context.Context, conn *sql.Conn, text string, args []any) (Result, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return Result{}, err
	}
	defer tx.Rollback() //nolint:errcheck // it is committed by then, or is not to be
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return Result{}, err
	}
	defer rows.Close()
	c := collector{caps: f.Caps, Result: Result{Rows: [][]json.RawMessage{}}}
	if c.Columns, err = rows.Columns(); err != nil {
		return Result{}, err
	}
	values, into := make([]any, len(c.Columns)), make([]any, len(c.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return Result{}, err
		}
		row := make([]json.RawMessage, 0, len(values))
		for _, v := range values {
			row = append(row, encoded(v))
		}
		if !c.add(row) {
			break
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return Result{}, err
	}
	if !f.Caps.Write {
		return c.Result, nil
	}
	if c.Truncated {
		return Result{}, refused("sql", "answers more than %d rows or %d bytes, and so nothing was written: narrow it", f.Caps.Rows, f.Caps.Bytes)
	}
	if err := tx.QueryRowContext(ctx, "SELECT total_changes()").Scan(&c.Changed); err != nil {
		return Result{}, err
	}
	return c.Result, tx.Commit()
}
