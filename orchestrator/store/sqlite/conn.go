package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
)

// conn is one connection and the statements that were prepared on it. One
// goroutine at a time uses it. Statements run to their end whatever becomes of
// the caller: each is short, and watching a context costs more than it.
type conn struct {
	db         *sql.DB
	raw        *sql.Conn
	statements map[string]*sql.Stmt
}

func connect(ctx context.Context, path, option string) (*conn, error) {
	const pragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&"
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+pragmas+option)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	raw, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	return &conn{db: db, raw: raw, statements: make(map[string]*sql.Stmt)}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.raw.Close(), c.db.Close())...)
}

func (c *conn) statement(query string) (*sql.Stmt, error) {
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	s, err := c.raw.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

func (c *conn) exec(query string, args ...any) error {
	_, err := c.changes(query, args...)
	return err
}

// changes runs a statement and returns how many rows it changed.
func (c *conn) changes(query string, args ...any) (int64, error) {
	s, err := c.statement(query)
	if err != nil {
		return 0, err
	}
	result, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// each calls scan for each row of a query.
func (c *conn) each(scan func(*sql.Rows) error, query string, args ...any) (err error) {
	s, err := c.statement(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// script runs several statements that are not used again.
func (c *conn) script(ctx context.Context, text string) error {
	_, err := c.raw.ExecContext(ctx, text)
	return err
}
