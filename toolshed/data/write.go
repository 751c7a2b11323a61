package data

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Document is one that is kept.
type Document struct {
	Collection string
	ID         string
	Version    int64
	UpdatedAt  time.Time
	Body       json.RawMessage
}

// What an operation of a transaction does.
const (
	OpPut    = "put"
	OpPatch  = "patch"
	OpDelete = "delete"
	OpCheck  = "check"
	// opDrop is of a collection, in the feed alone.
	opDrop = "drop"
)

// Operation is a part of a transaction.
type Operation struct {
	Op         string
	Collection string
	// ID is drawn where it is empty and the operation puts.
	ID   string
	Body json.RawMessage
	// IfVersion is the version that the document must have, 0 that there must
	// be none; nil for any.
	IfVersion *int64
}

// Apply does operations all together or not at all, and answers the version of
// each; that of a check is the one it saw. Errors are a *FieldError, ErrChanged,
// ErrNotFound, ErrTaken, store.ErrFull and store.ErrQuota.
func (s *Store) Apply(ctx context.Context, all []Operation) ([]Document, error) {
	if len(all) == 0 || len(all) > MaxOperations {
		return nil, refused("operations", "there are %d, want 1 to %d", len(all), MaxOperations)
	}
	frees := true
	for i := range all {
		if err := s.checkOperation(&all[i]); err != nil {
			return nil, inOperation(i, len(all), err)
		}
		frees = frees && (all[i].Op == OpDelete || all[i].Op == OpCheck)
	}
	var done []Document
	apply := func(tx *store.Tx) error {
		done = make([]Document, 0, len(all))
		for i, o := range all {
			d, err := s.apply(tx, o)
			if err != nil {
				return inOperation(i, len(all), taken(err))
			}
			done = append(done, d)
		}
		return nil
	}
	write := s.db.Grow
	if frees {
		write = s.db.Free
	}
	if err := write(ctx, apply); err != nil {
		return nil, fmt.Errorf("writing documents: %w", err)
	}
	s.tell(changesOf(all, done, s.now())...)
	return done, nil
}

// changesOf are the lines of the feed that operations have written.
func changesOf(all []Operation, done []Document, at time.Time) (changes []Change) {
	for i, o := range all {
		c := Change{Version: done[i].Version, Collection: o.Collection, ID: o.ID, Op: OpPut, At: at.UTC().Truncate(time.Millisecond)}
		switch o.Op {
		case OpCheck:
			continue
		case OpDelete:
			c.Op = OpDelete
		}
		changes = append(changes, c)
	}
	return changes
}

// inOperation says which operation of several it is about.
func inOperation(i, of int, err error) error {
	if of == 1 {
		return err
	}
	if f, ok := errors.AsType[*FieldError](err); ok {
		return &FieldError{fmt.Sprintf("operations[%d].%s", i, f.Field), f.Err}
	}
	return fmt.Errorf("operations[%d]: %w", i, err)
}

func (s *Store) checkOperation(o *Operation) error {
	if !validName.MatchString(o.Collection) {
		return refused("collection", "want lower case letters, digits, _ and -, at most 64")
	}
	if o.ID == "" && o.Op == OpPut {
		var b [16]byte
		if _, err := io.ReadFull(s.random, b[:]); err != nil {
			return fmt.Errorf("drawing an id: %w", err)
		}
		o.ID = strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	}
	if !validID.MatchString(o.ID) {
		return refused("id", "want letters, digits and ._~:@-, at most 128")
	}
	switch o.Op {
	case OpPut, OpPatch:
		return checkBody(o)
	case OpDelete, OpCheck:
		if len(o.Body) > 0 {
			return refused("document", "is nothing for %s", o.Op)
		}
		return nil
	}
	return refused("op", "is %.32q, want put, patch, delete or check", o.Op)
}

func checkBody(o *Operation) error {
	if len(o.Body) > MaxDocumentBytes {
		return refused("document", "has %d bytes, at most %d", len(o.Body), MaxDocumentBytes)
	}
	if err := checkJSON(o.Body); err != nil {
		return &FieldError{"document", err}
	}
	var b bytes.Buffer
	if err := json.Compact(&b, o.Body); err != nil {
		return &FieldError{"document", err}
	}
	if o.Body = b.Bytes(); o.Body[0] != '{' {
		return refused("document", "want an object")
	}
	return nil
}

func (s *Store) apply(tx *store.Tx, o Operation) (Document, error) {
	d, err := get(tx, o.Collection, o.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return d, err
	}
	d.Collection, d.ID = o.Collection, o.ID
	if o.IfVersion != nil && *o.IfVersion != d.Version {
		return d, ErrChanged
	}
	switch {
	case o.Op == OpCheck:
		return d, nil
	case o.Op != OpPut && d.Version == 0:
		return d, ErrNotFound
	case o.Op == OpDelete:
		return s.remove(tx, d)
	case o.Op == OpPatch:
		// RFC 7396, as SQLite has it.
		var patched string
		if err := tx.QueryRow("SELECT json_patch(?, ?)", string(d.Body), string(o.Body)).Scan(&patched); err != nil {
			return d, fmt.Errorf("patching: %w", err)
		}
		if len(patched) > MaxDocumentBytes {
			return d, refused("document", "would have %d bytes, at most %d", len(patched), MaxDocumentBytes)
		}
		o.Body = json.RawMessage(patched)
	}
	d.Body = o.Body
	return s.write(tx, d)
}

func (s *Store) remove(tx *store.Tx, d Document) (_ Document, err error) {
	if _, err := tx.Exec("DELETE FROM documents WHERE collection = ? AND id = ?", d.Collection, d.ID); err != nil {
		return d, err
	}
	d.Body = nil
	d.Version, err = s.record(tx, d.Collection, d.ID, OpDelete)
	return d, err
}

func (s *Store) write(tx *store.Tx, d Document) (Document, error) {
	if err := s.ensure(tx, d.Collection); err != nil {
		return d, err
	}
	if err := s.hold(tx, d); err != nil {
		return d, err
	}
	version, err := s.record(tx, d.Collection, d.ID, OpPut)
	if err != nil {
		return d, err
	}
	d.Version, d.UpdatedAt = version, s.now().UTC().Truncate(time.Millisecond)
	_, err = tx.Exec(`INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT (collection, id) DO UPDATE SET version = ?3, updated_at = ?4, body = ?5`,
		d.Collection, d.ID, d.Version, d.UpdatedAt.UnixMilli(), string(d.Body))
	return d, err
}

// hold sees that a document is of its collection's schema.
func (s *Store) hold(tx *store.Tx, d Document) error {
	var text string
	if err := tx.QueryRow("SELECT schema FROM collections WHERE name = ?", d.Collection).Scan(&text); err != nil {
		return err
	}
	schema, err := s.compiled(text)
	if err != nil || schema == nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.Body))
	if err != nil {
		return &FieldError{"document", err}
	}
	if err := schema.Validate(value); err != nil {
		return refused("document", "is not of the collection's schema: %w", err)
	}
	return nil
}

// record draws a version and writes the feed's line for it.
func (s *Store) record(tx *store.Tx, collection, id, op string) (version int64, err error) {
	if err := tx.QueryRow("UPDATE versions SET last = last + 1 RETURNING last").Scan(&version); err != nil {
		return 0, err
	}
	if _, err := tx.Exec("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", version, collection, id, op, s.now().UnixMilli()); err != nil {
		return 0, err
	}
	_, err = tx.Exec("DELETE FROM changes WHERE version <= ?", version-KeptChanges)
	return version, err
}

// get answers one document; the error is ErrNotFound.
func get(tx *store.Tx, collection, id string) (d Document, err error) {
	d.Collection, d.ID = collection, id
	var at int64
	var body string
	err = tx.QueryRow("SELECT version, updated_at, body FROM documents WHERE collection = ? AND id = ?", collection, id).Scan(&d.Version, &at, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ErrNotFound
	}
	d.UpdatedAt, d.Body = time.UnixMilli(at).UTC(), json.RawMessage(body)
	return d, err
}

// Get answers one document. The error is ErrNotFound.
func (s *Store) Get(ctx context.Context, collection, id string) (d Document, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		d, err = get(tx, collection, id)
		return err
	})
	if err != nil {
		return d, fmt.Errorf("getting a document: %w", err)
	}
	return d, nil
}
