package data

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

const maxSchemaBytes = 64 << 10

// Index is a path whose values are found without reading every document.
type Index struct {
	Path string `json:"path"`
	// Unique is that no two documents have the same value there.
	Unique bool `json:"unique,omitempty"`
}

// Collection is what is declared of one.
type Collection struct {
	Name string
	// Schema is what documents that are written must be of; nil for anything.
	Schema    json.RawMessage
	Indexes   []Index
	Documents int64
	CreatedAt time.Time
}

// Declare makes a collection, or brings its schema and indexes to what is said.
// A schema holds for what is written from then on. Errors are a *FieldError and
// ErrTaken.
func (s *Store) Declare(ctx context.Context, c Collection) error {
	if !validName.MatchString(c.Name) {
		return refused("collection", "want lower case letters, digits, _ and -, at most 64")
	}
	if len(c.Indexes) > MaxIndexes {
		return refused("indexes", "there are %d, at most %d", len(c.Indexes), MaxIndexes)
	}
	for i, x := range c.Indexes {
		if !validPath.MatchString(x.Path) {
			return refused(fmt.Sprintf("indexes[%d].path", i), "want names with points between")
		}
		if slices.ContainsFunc(c.Indexes[:i], func(y Index) bool { return y.Path == x.Path }) {
			return refused(fmt.Sprintf("indexes[%d].path", i), "is there twice")
		}
	}
	if _, err := s.compiled(string(c.Schema)); err != nil {
		return err
	}
	err := s.db.Grow(ctx, func(tx *store.Tx) error {
		if err := s.ensure(tx, c.Name); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE collections SET schema = ? WHERE name = ?", string(c.Schema), c.Name); err != nil {
			return err
		}
		return declareIndexes(tx, c)
	})
	if err != nil {
		return fmt.Errorf("declaring a collection: %w", taken(err))
	}
	return nil
}

func declareIndexes(tx *store.Tx, c Collection) error {
	have, err := indexesOf(tx, c.Name)
	if err != nil {
		return err
	}
	for _, x := range have {
		if slices.Contains(c.Indexes, x) {
			continue
		}
		if _, err := tx.Exec("DROP INDEX " + indexName(c.Name, x.Path)); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM indexes WHERE collection = ? AND path = ?", c.Name, x.Path); err != nil {
			return err
		}
	}
	for _, x := range c.Indexes {
		if slices.Contains(have, x) {
			continue
		}
		unique := map[bool]string{true: "UNIQUE "}[x.Unique]
		// The primary key begins with the collection and has the order of ids:
		// SQLite prefers an index only where it has both too.
		columns := "collection, " + valueAt(x.Path)
		if !x.Unique {
			columns += ", id"
		}
		_, err := tx.Exec("CREATE " + unique + "INDEX " + indexName(c.Name, x.Path) + " ON documents (" + columns + ") WHERE collection = '" + c.Name + "'")
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO indexes VALUES (?, ?, ?)", c.Name, x.Path, x.Unique); err != nil {
			return err
		}
	}
	return nil
}

// indexName is of a checked name and path: neither has a quote. The path stands
// in hex, since SQLite takes names that differ in case for one.
func indexName(collection, path string) string {
	return fmt.Sprintf(`"by %s %x"`, collection, path)
}

func indexesOf(tx *store.Tx, name string) (all []Index, err error) {
	err = tx.Each(func(rows *sql.Rows) error {
		var x Index
		err := rows.Scan(&x.Path, &x.Unique)
		all = append(all, x)
		return err
	}, "SELECT path, uniq FROM indexes WHERE collection = ? ORDER BY path", name)
	return all, err
}

// ensure makes a collection where there is none.
func (s *Store) ensure(tx *store.Tx, name string) error {
	result, err := tx.Exec("INSERT OR IGNORE INTO collections VALUES (?, '', ?)", name, s.now().UnixMilli())
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	var count int
	if err := tx.QueryRow("SELECT count(*) FROM collections").Scan(&count); err != nil {
		return err
	}
	if count > MaxCollections {
		return refused("collection", "there are %d already", MaxCollections)
	}
	return nil
}

// Collections answers all.
func (s *Store) Collections(ctx context.Context) (all []Collection, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		err := tx.Each(func(rows *sql.Rows) error {
			var c Collection
			var schema string
			var at int64
			if err := rows.Scan(&c.Name, &schema, &at, &c.Documents); err != nil {
				return err
			}
			if schema != "" {
				c.Schema = json.RawMessage(schema)
			}
			c.CreatedAt = time.UnixMilli(at).UTC()
			all = append(all, c)
			return nil
		}, "SELECT name, schema, created_at, (SELECT count(*) FROM documents WHERE collection = name) FROM collections ORDER BY name")
		for i := range all {
			if err == nil {
				all[i].Indexes, err = indexesOf(tx, all[i].Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing collections: %w", err)
	}
	return all, nil
}

// Drop removes a collection with its documents. The error is ErrNoCollection.
func (s *Store) Drop(ctx context.Context, name string) error {
	var version int64
	err := s.db.Free(ctx, func(tx *store.Tx) error {
		have, err := indexesOf(tx, name)
		if err != nil {
			return err
		}
		for _, x := range have {
			if _, err := tx.Exec("DROP INDEX " + indexName(name, x.Path)); err != nil {
				return err
			}
		}
		result, err := tx.Exec("DELETE FROM collections WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNoCollection)
		}
		version, err = s.record(tx, name, "", opDrop)
		return err
	})
	if err != nil {
		return fmt.Errorf("dropping a collection: %w", err)
	}
	s.tell(Change{Version: version, Collection: name, Op: opDrop, At: s.now().UTC().Truncate(time.Millisecond)})
	return nil
}

// compiled is the schema of a text; nil for none.
func (s *Store) compiled(text string) (*jsonschema.Schema, error) {
	if text == "" {
		return nil, nil
	}
	s.mu.Lock()
	known := s.schemas[text]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if len(text) > maxSchemaBytes {
		return nil, refused("schema", "has %d bytes, at most %d", len(text), maxSchemaBytes)
	}
	if err := checkJSON([]byte(text)); err != nil {
		return nil, &FieldError{"schema", err}
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		return nil, &FieldError{"schema", err}
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	const name = "urn:schema"
	if err := c.AddResource(name, parsed); err != nil {
		return nil, &FieldError{"schema", err}
	}
	known, err = c.Compile(name)
	if err != nil {
		return nil, &FieldError{"schema", err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.schemas) >= MaxCollections {
		clear(s.schemas)
	}
	s.schemas[text] = known
	return known, nil
}

type nothing struct{}

func (nothing) Load(string) (any, error) {
	return nil, errors.New("a schema may refer to itself alone")
}

// taken is ErrTaken where a unique index refused.
func taken(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return ErrTaken
	}
	return err
}
