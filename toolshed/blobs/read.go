package blobs

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

const blobColumns = "sha256, blake3, size, stored, packed, remote, media_type, name, created_at"

func scanBlob(row interface{ Scan(...any) error }) (b Blob, err error) {
	var sha, blake []byte
	var created int64
	err = row.Scan(&sha, &blake, &b.Size, &b.Stored, &b.Packed, &b.Remote, &b.MediaType, &b.Name, &created)
	if err == nil {
		b.SHA256, b.BLAKE3, b.CreatedAt = Hash(sha), Hash(blake), time.UnixMilli(created).UTC()
	}
	return b, err
}

// Get answers a blob by its SHA-256. The error is ErrNotFound.
func (s *Store) Get(ctx context.Context, h Hash) (Blob, error) { return s.get(ctx, "sha256", h) }

// GetBLAKE3 answers a blob by its BLAKE3. The error is ErrNotFound.
func (s *Store) GetBLAKE3(ctx context.Context, h Hash) (Blob, error) { return s.get(ctx, "blake3", h) }

func (s *Store) get(ctx context.Context, column string, h Hash) (b Blob, err error) {
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		b, err = scanBlob(tx.QueryRow("SELECT "+blobColumns+" FROM blobs WHERE "+column+" = ?", h[:]))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return b, ErrNotFound
	}
	if err != nil {
		return b, fmt.Errorf("getting a blob: %w", err)
	}
	return b, nil
}

// Page is where a listing goes on: after the last one seen; zero from the
// latest on.
type Page struct {
	Before time.Time
	After  Hash
}

// List answers at most limit blobs, the latest first.
func (s *Store) List(ctx context.Context, from Page, limit int) (all []Blob, err error) {
	before := from.Before.UnixMilli()
	if from.Before.IsZero() {
		before = 1<<63 - 1
	}
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			b, err := scanBlob(rows)
			all = append(all, b)
			return err
		}, "SELECT "+blobColumns+" FROM blobs WHERE created_at < ?1 OR created_at = ?1 AND sha256 > ?2 ORDER BY created_at DESC, sha256 LIMIT ?3",
			before, from.After[:], limit)
	})
	if err != nil {
		return nil, fmt.Errorf("listing blobs: %w", err)
	}
	return all, nil
}

// Content is a blob's bytes from anywhere.
type Content interface {
	io.ReadSeeker
	io.Closer
}

// Open answers a blob's content. Errors are ErrLost and ErrRemote.
func (s *Store) Open(ctx context.Context, b Blob) (Content, error) {
	f, err := os.Open(s.file(b))
	if errors.Is(err, os.ErrNotExist) && b.Remote && s.Remote != nil {
		f, err = s.fetch(ctx, b)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("opening a blob: %w", err)
	}
	if b.Remote {
		// When it was last used is what the cache goes by.
		_ = os.Chtimes(f.Name(), s.Now(), s.Now())
	}
	c, err := contentOf(f, b)
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// unpacked is the content of a packed file.
type unpacked struct {
	*unpacker
	io.Closer
}

func contentOf(f *os.File, b Blob) (Content, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening a blob: %w", err)
	}
	if info.Size() != b.Stored {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrLost, info.Size(), b.Stored)
	}
	if !b.Packed {
		return f, nil
	}
	u, err := unpack(f, b.Stored)
	if err == nil && u.size != b.Size {
		err = errPacked
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return unpacked{unpacker: u, Closer: f}, nil
}

// check reads a content whole, and sees that it is the blob's.
func check(c io.Reader, b Blob) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, c); err != nil {
		return err
	}
	if Hash(sum.Sum(nil)) != b.SHA256 {
		return fmt.Errorf("%w: it has another content", ErrLost)
	}
	return nil
}

// Delete removes a blob. Errors are ErrNotFound and ErrUsed.
func (s *Store) Delete(ctx context.Context, h Hash) error {
	if !s.take(h.String()) {
		return ErrBusy
	}
	defer s.release(h.String())
	b, err := s.Get(ctx, h)
	if err != nil {
		return err
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	err = s.DB.Free(ctx, func(tx *store.Tx) error {
		var used bool
		if err := tx.QueryRow("SELECT EXISTS (SELECT 1 FROM site_files WHERE sha256 = ?)", h[:]).Scan(&used); err != nil {
			return err
		}
		if used {
			return ErrUsed
		}
		if b.Remote {
			if _, err := tx.Exec("INSERT OR IGNORE INTO doubts VALUES (?)", b.fileName()); err != nil {
				return err
			}
		}
		if _, err := tx.Exec("DELETE FROM uploads WHERE sha256 = ?", h[:]); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM blobs WHERE sha256 = ?", h[:])
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting a blob: %w", err)
	}
	if err := removeIfThere(s.file(b)); err != nil {
		return fmt.Errorf("deleting a blob: %w", err)
	}
	if b.Remote && s.Remote != nil {
		// What fails here a sweep does again.
		_ = s.settleDoubt(ctx, b.fileName())
	}
	return nil
}

// Usage says what is kept.
func (s *Store) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "blobs", Quota: s.Quota}
	var files int64
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*), coalesce(sum(stored), 0) + (SELECT coalesce(sum(offset), 0) FROM uploads WHERE sha256 IS NULL) FROM blobs").Scan(&u.Count, &files)
	})
	if err != nil {
		return u, fmt.Errorf("counting blobs: %w", err)
	}
	u.Bytes, err = s.DB.Bytes()
	u.Bytes += files
	return u, err
}
