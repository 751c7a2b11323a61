package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// rewrites are what a migration does to rows after its file, by its number.
var rewrites = map[int]func(context.Context, *conn) error{2: fromFormat1}

// migrate applies what is missing of the numbered files, each in one
// transaction with its number.
func migrate(ctx context.Context, c *conn) error {
	var have int
	if err := c.raw.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("listing migrations: %w", err)
	}
	if have > len(files) {
		return fmt.Errorf("the state has schema version %d and this program knows %d: it was written by a newer one", have, len(files))
	}
	for n, name := range files[have:] {
		if err := apply(ctx, c, name, have+n+1); err != nil {
			return fmt.Errorf("applying %s: %w", name, err)
		}
	}
	return nil
}

func apply(ctx context.Context, c *conn, name string, version int) (err error) {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	if prefix := fmt.Sprintf("migrations/%04d_", version); !strings.HasPrefix(name, prefix) {
		return fmt.Errorf("want a name that starts with %s", prefix)
	}
	if err := c.script(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// SQLite may have rolled it back already.
			_ = c.script(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := c.script(ctx, string(text)); err != nil {
		return err
	}
	if rewrite := rewrites[version]; rewrite != nil {
		if err := rewrite(ctx, c); err != nil {
			return err
		}
	}
	// A pragma takes no parameters.
	if err := c.script(ctx, "PRAGMA user_version = "+strconv.Itoa(version)); err != nil {
		return err
	}
	return c.script(ctx, "COMMIT")
}
