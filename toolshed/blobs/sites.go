package blobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Site is blobs under paths, on an origin of their own.
type Site struct {
	Name string
	// Public is for anybody who reaches this server.
	Public    bool
	UpdatedAt time.Time
	// Files are blobs by their paths, without a slash in front.
	Files map[string]Hash
}

// SiteError is a site that is refused.
type SiteError struct {
	Field string
	Err   error
}

func (e *SiteError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap is why.
func (e *SiteError) Unwrap() error { return e.Err }

// validSite is a label of a host's name.
var validSite = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// reservedSite is the label that functions' hosts are below: a page there could
// set cookies for all of them.
const reservedSite = "fn"

func (s Site) check() error {
	if s.Name == reservedSite {
		return &SiteError{"site", errors.New("the name fn is for the hosts of functions")}
	}
	if !validSite.MatchString(s.Name) {
		return &SiteError{"site", errors.New("want lower case letters, digits and hyphens, at most 32")}
	}
	if len(s.Files) == 0 || len(s.Files) > MaxSiteFiles {
		return &SiteError{"files", fmt.Errorf("there are %d, want 1 to %d", len(s.Files), MaxSiteFiles)}
	}
	for p := range s.Files {
		if p == "" || len(p) > 512 || !utf8.ValidString(p) || strings.HasPrefix(p, "/") || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\\\x00") {
			return &SiteError{fmt.Sprintf("files.%.64q", p), errors.New("want a plain path without a slash in front")}
		}
	}
	return nil
}

// PutSite makes a site or replaces it, all at once. Errors are a *SiteError,
// ErrQuota and store.ErrFull.
func (s *Store) PutSite(ctx context.Context, site Site) error {
	if err := site.check(); err != nil {
		return err
	}
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		var others int
		if err := tx.QueryRow("SELECT count(*) FROM sites WHERE name <> ?", site.Name).Scan(&others); err != nil {
			return err
		}
		if others >= MaxSites {
			return fmt.Errorf("%w: %d sites", ErrQuota, others)
		}
		_, err := tx.Exec("INSERT INTO sites VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET public = ?2, updated_at = ?3",
			site.Name, site.Public, s.Now().UnixMilli())
		if err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM site_files WHERE site = ?", site.Name); err != nil {
			return err
		}
		for p, h := range site.Files {
			result, err := tx.Exec("INSERT INTO site_files SELECT ?, ?, sha256 FROM blobs WHERE sha256 = ?", site.Name, p, h[:])
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n == 0 {
				return errors.Join(err, &SiteError{fmt.Sprintf("files.%.64q", p), ErrNotFound})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("putting a site: %w", err)
	}
	return nil
}

// DeleteSite removes a site and leaves its blobs. The error is ErrNoSite.
func (s *Store) DeleteSite(ctx context.Context, name string) error {
	err := s.DB.Free(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec("DELETE FROM sites WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNoSite)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting a site: %w", err)
	}
	return nil
}

// Sites answers all, with their files.
func (s *Store) Sites(ctx context.Context) (all []Site, err error) {
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		index := map[string]int{}
		err := tx.Each(func(rows *sql.Rows) error {
			site := Site{Files: map[string]Hash{}}
			var at int64
			err := rows.Scan(&site.Name, &site.Public, &at)
			site.UpdatedAt = time.UnixMilli(at).UTC()
			index[site.Name] = len(all)
			all = append(all, site)
			return err
		}, "SELECT name, public, updated_at FROM sites ORDER BY name")
		if err != nil {
			return err
		}
		return tx.Each(func(rows *sql.Rows) error {
			var name, p string
			var sum []byte
			if err := rows.Scan(&name, &p, &sum); err != nil {
				return err
			}
			all[index[name]].Files[p] = Hash(sum)
			return nil
		}, "SELECT site, path, sha256 FROM site_files")
	})
	if err != nil {
		return nil, fmt.Errorf("listing sites: %w", err)
	}
	return all, nil
}

// found is what a site has for a path.
type found struct {
	blob Blob
	// missing says that it is the site's page for what it has not.
	missing bool
	// folder says that the path lacks a slash at its end.
	folder bool
}

// lookUp finds a path of a site. Errors are ErrNoSite and ErrNotFound; public
// is known without an error and with ErrNotFound.
func (s *Store) lookUp(ctx context.Context, site, p string) (f found, public bool, err error) {
	get := func(tx *store.Tx, p string) error {
		f.blob, err = scanBlob(tx.QueryRow("SELECT "+blobColumns+" FROM blobs WHERE sha256 = (SELECT sha256 FROM site_files WHERE site = ? AND path = ?)", site, p))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		return err
	}
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow("SELECT public FROM sites WHERE name = ?", site).Scan(&public)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoSite
		}
		if err != nil {
			return err
		}
		if p == "" || strings.HasSuffix(p, "/") {
			err = get(tx, p+"index.html")
		} else if err = get(tx, p); errors.Is(err, ErrNotFound) {
			if err = get(tx, p+"/index.html"); err == nil {
				f.folder = true
			}
		}
		if errors.Is(err, ErrNotFound) {
			if err = get(tx, "404.html"); err == nil {
				f.missing = true
			}
		}
		return err
	})
	return f, public, err
}
