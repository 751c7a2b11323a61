package img

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "img", SecureDelete: true, Migrations: []store.Migration{store.Statements(`
	CREATE TABLE images (
		hash       BLOB PRIMARY KEY,
		media_type TEXT NOT NULL,
		width      INTEGER NOT NULL,
		height     INTEGER NOT NULL,
		size       INTEGER NOT NULL,
		model      TEXT NOT NULL,
		prompt     TEXT NOT NULL,
		seed       INTEGER,
		created_at INTEGER NOT NULL,
		bytes      BLOB NOT NULL
	) STRICT;
	CREATE INDEX images_created ON images (created_at DESC, hash)`)}}

// The sentinels of the gallery.
var (
	ErrNotFound = errors.New("no such image")
	// ErrNoModel says that no provider is configured for a model.
	ErrNoModel = errors.New("no such model")
	// ErrQuota says that no more images are kept.
	ErrQuota = errors.New("the images have as many bytes as they may")
)

// Gallery has images made and keeps them.
type Gallery struct {
	// Providers are by their configured names: a model is PROVIDER/MODEL.
	Providers map[string]Provider
	DB        *store.DB
	Now       func() time.Time
	// Quota bounds the bytes of all images.
	Quota int64
}

var _ mount.Reporter = (*Gallery)(nil)

// Make has images made and keeps them all. Errors are ErrNoModel, ErrQuota, and
// those of the provider.
func (g *Gallery) Make(ctx context.Context, provider string, r Request) ([]Image, error) {
	p := g.Providers[provider]
	if p == nil {
		return nil, fmt.Errorf("%w: there is no provider %.64q", ErrNoModel, provider)
	}
	made, err := p.Make(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(made) != r.Count {
		return nil, upstream.Breaks("%d images were asked for, %d came", r.Count, len(made))
	}
	var all []Image
	for _, m := range made {
		i := Image{
			Hash: sha256.Sum256(m.Bytes), Size: int64(len(m.Bytes)), Model: provider + "/" + r.Model, Prompt: r.Prompt,
			Seed: m.Seed, CreatedAt: g.Now().UTC().Truncate(time.Millisecond),
		}
		if i.MediaType, i.Width, i.Height, err = look(m.Bytes); err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, g.keep(ctx, all, made)
}

func (g *Gallery) keep(ctx context.Context, all []Image, made []Made) error {
	err := g.DB.Update(ctx, func(tx *store.Tx) error {
		var kept int64
		if err := tx.QueryRow("SELECT coalesce(sum(size), 0) FROM images").Scan(&kept); err != nil {
			return err
		}
		for n, i := range all {
			if kept += i.Size; kept > g.Quota {
				return fmt.Errorf("%w: %d", ErrQuota, g.Quota)
			}
			_, err := tx.Exec("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
				i.Hash[:], i.MediaType, i.Width, i.Height, i.Size, i.Model, i.Prompt, i.Seed, i.CreatedAt.UnixMilli(), made[n].Bytes)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping images: %w", err)
	}
	return nil
}

const columns = "hash, media_type, width, height, size, model, prompt, seed, created_at"

type scanner interface{ Scan(...any) error }

func scan(s scanner, more ...any) (i Image, err error) {
	var hash []byte
	var at int64
	err = s.Scan(append([]any{&hash, &i.MediaType, &i.Width, &i.Height, &i.Size, &i.Model, &i.Prompt, &i.Seed, &at}, more...)...)
	if err == nil {
		i.Hash, i.CreatedAt = Hash(hash), time.UnixMilli(at).UTC()
	}
	return i, err
}

// Get answers an image with its bytes. The error is ErrNotFound.
func (g *Gallery) Get(ctx context.Context, h Hash) (i Image, b []byte, err error) {
	err = g.DB.View(ctx, func(tx *store.Tx) error {
		i, err = scan(tx.QueryRow("SELECT "+columns+", bytes FROM images WHERE hash = ?", h[:]), &b)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return i, nil, ErrNotFound
	}
	if err != nil {
		return i, nil, fmt.Errorf("getting an image: %w", err)
	}
	return i, b, nil
}

// Page is where a listing goes on: Before a time, and of those made at that very
// time after a hash, where one is given.
type Page struct {
	Before time.Time
	After  *Hash
}

// List answers the latest images of a page on.
func (g *Gallery) List(ctx context.Context, from Page, limit int) (all []Image, err error) {
	// A blob that is greater than every hash.
	after := bytes.Repeat([]byte{0xff}, len(Hash{})+1)
	if from.After != nil {
		after = from.After[:]
	}
	err = g.DB.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			i, err := scan(rows)
			all = append(all, i)
			return err
		}, "SELECT "+columns+" FROM images WHERE created_at < ?1 OR created_at = ?1 AND hash > ?2 ORDER BY created_at DESC, hash LIMIT ?3",
			from.Before.UnixMilli(), after, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	return all, nil
}

// Delete removes an image. The error is ErrNotFound.
func (g *Gallery) Delete(ctx context.Context, h Hash) error {
	return g.DB.Free(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec("DELETE FROM images WHERE hash = ?", h[:])
		if err != nil {
			return fmt.Errorf("deleting an image: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNotFound)
		}
		return nil
	})
}

// Usage says what is kept.
func (g *Gallery) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "images", Quota: g.Quota}
	err := g.DB.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM images").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting images: %w", err)
	}
	u.Bytes, err = g.DB.Bytes()
	return u, err
}
