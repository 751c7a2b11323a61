package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// finish makes a blob of an upload that is whole. A kill at any point leaves
// the upload whole, to be finished again, or the blob.
func (s *Store) finish(ctx context.Context, u *Upload, f *os.File, kept *sums) error {
	b := Blob{Size: u.Length, Stored: u.Length, MediaType: u.MediaType, Name: u.Name, CreatedAt: s.Now().UTC().Truncate(time.Millisecond)}
	b.SHA256, b.BLAKE3 = kept.both()
	// Two uploads of the same content take turns: the second finds the blob.
	if err := s.takeTurn(ctx, b.SHA256.String()); err != nil {
		return err
	}
	defer s.release(b.SHA256.String())
	_, err := s.Get(ctx, b.SHA256)
	switch {
	case errors.Is(err, ErrNotFound):
		err = s.place(ctx, b, u.ID, f)
	case err == nil:
		err = s.settle(ctx, u.ID, b.SHA256, nil)
	}
	if err != nil {
		return err
	}
	u.Blob = &b.SHA256
	s.signal(u.ID)
	if s.Publish != nil {
		s.Publish(Uploaded{b.SHA256.String(), b.Size, b.MediaType, b.Name})
	}
	if err := removeIfThere(s.part(u.ID)); err != nil {
		return fmt.Errorf("removing a whole upload: %w", err)
	}
	return nil
}

// place gives a blob its file, here and in the backing store, and then its row.
func (s *Store) place(ctx context.Context, b Blob, id string, f *os.File) error {
	from := s.part(id)
	packed, err := s.packPart(&b, id, f)
	if err != nil {
		return err
	}
	if packed != "" {
		from = s.part(packed)
		defer s.release(packed)
		defer os.Remove(from) //nolint:errcheck // a sweep removes what stays
	}
	if s.Remote != nil {
		if err := s.putRemote(ctx, b, from); err != nil {
			return err
		}
		b.Remote = true
	}
	s.placing.Lock()
	defer s.placing.Unlock()
	if err := s.link(from, b); err != nil {
		return err
	}
	if err := s.settle(ctx, id, b.SHA256, &b); err != nil {
		return errors.Join(err, removeIfThere(s.file(b)))
	}
	return nil
}

// packPart compresses what is worth it, into a temporary file whose name it
// answers; empty where it is not.
func (s *Store) packPart(b *Blob, id string, f *os.File) (name string, err error) {
	if b.Size < 256 || b.Size > maxFrames*frameBytes || compressed(b.MediaType) {
		return "", nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("packing a blob: %w", err)
	}
	name = id + ".zst"
	s.take(name)
	defer func() {
		if err != nil || !b.Packed {
			s.release(name)
		}
	}()
	to, err := os.OpenFile(s.part(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("packing a blob: %w", err)
	}
	n, err := pack(to, f, b.Size)
	if err == nil {
		err = to.Sync()
	}
	err = errors.Join(err, to.Close())
	if err != nil {
		gone := os.Remove(s.part(name))
		if errors.Is(err, errNotWorth) {
			return "", gone
		}
		return "", errors.Join(fmt.Errorf("packing a blob: %w", err), gone)
	}
	b.Stored, b.Packed = n, true
	return name, nil
}

// compressed says that a media type is compressed by itself.
func compressed(mediaType string) bool {
	kind, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	switch kind {
	case "application/zip", "application/gzip", "application/zstd", "application/x-xz", "application/x-7z-compressed", "font/woff2":
		return true
	case "image/svg+xml", "image/bmp", "audio/wav":
		return false
	}
	group, _, _ := strings.Cut(kind, "/")
	return group == "image" || group == "video" || group == "audio"
}

// link gives a file that is whole its final name. It is called with placing
// held.
func (s *Store) link(from string, b Blob) error {
	to := s.file(b)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	if err := removeIfThere(to); err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	// The upload keeps its name until the row is there.
	if err := os.Link(from, to); err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	if err := errors.Join(syncFolder(filepath.Dir(to)), syncFolder(s.Path(Folder))); err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	return nil
}

// settle writes the row of a blob that is new, and what the upload has become.
func (s *Store) settle(ctx context.Context, id string, h Hash, fresh *Blob) error {
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		if b := fresh; b != nil {
			_, err := tx.Exec("INSERT INTO blobs ("+blobColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
				b.SHA256[:], b.BLAKE3[:], b.Size, b.Stored, b.Packed, b.Remote, b.MediaType, b.Name, b.CreatedAt.UnixMilli())
			if err != nil {
				return err
			}
			if _, err := tx.Exec("DELETE FROM doubts WHERE object = ?", b.fileName()); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE uploads SET sha256 = ?, expires_at = ? WHERE id = ?", h[:], s.Now().Add(s.Lifetime).UnixMilli(), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	return nil
}

// file is where a blob's file is. Folders of 256 keep a listing short.
func (s *Store) file(b Blob) string {
	name := b.fileName()
	return filepath.Join(s.Path(Folder), name[:2], name)
}

// putRemote puts a file into the backing store. That it may be there is written
// down before, so that it is removed where its row never comes.
func (s *Store) putRemote(ctx context.Context, b Blob, from string) error {
	name := b.fileName()
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT OR IGNORE INTO doubts VALUES (?)", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("placing a blob: %w", err)
	}
	defer f.Close()
	if err := s.Remote.Put(ctx, name, f, b.Stored); err != nil {
		return fmt.Errorf("%w: putting an object: %w", ErrRemote, err)
	}
	return nil
}

// Add takes a whole body as a blob. Errors are those of Create and Append.
func (s *Store) Add(ctx context.Context, body io.Reader, length int64, mediaType, name string) (Blob, error) {
	u, err := s.Create(ctx, Upload{Length: length, MediaType: mediaType, Name: name})
	if err != nil {
		return Blob{}, err
	}
	whole, err := s.Append(ctx, u.ID, 0, body, nil)
	if err == nil && whole.Blob == nil {
		err = ErrCut
	}
	// Nobody can go on with an upload that nobody was told of.
	if err = errors.Join(err, s.drop(context.WithoutCancel(ctx), u.ID)); err != nil {
		return Blob{}, err
	}
	return s.Get(ctx, *whole.Blob)
}
