package auth

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Schema is what the database of tokens holds.
var Schema = store.Schema{Name: "auth", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE tokens (
		id         TEXT PRIMARY KEY,
		digest     BLOB NOT NULL,
		name       TEXT NOT NULL,
		scopes     TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		expires_at INTEGER
	) STRICT, WITHOUT ROWID`),
	store.Statements(`ALTER TABLE tokens ADD COLUMN minted_by TEXT NOT NULL DEFAULT ''`)}}

// maxTokens bounds what is kept in memory.
const maxTokens = 1000

// The sentinels of tokens.
var (
	ErrNoToken       = errors.New("no such token")
	ErrNotOurs       = errors.New("a token ends itself and those that were made with it; another takes the scope *")
	ErrTooManyTokens = fmt.Errorf("there are %d tokens already", maxTokens)
)

// Token is what is kept of one.
type Token struct {
	ID, Name string
	Scopes   Scopes
	Created  time.Time
	// Expires is zero for a token that does not.
	Expires time.Time
	// MintedBy is the id of the token that it was made with; empty for one that
	// the owner made.
	MintedBy string

	digest digest
}

// Keeper keeps tokens.
type Keeper struct {
	db     *store.DB
	now    func() time.Time
	random io.Reader

	// mu guards tokens, and is held while the database is written so that both
	// agree.
	mu     sync.RWMutex
	tokens map[string]Token
	// lives are of tokens with which something lasts, and end with them.
	lives map[string]life
}

type life struct {
	ctx context.Context
	end context.CancelFunc
}

// NewKeeper uses a database with this package's Schema.
func NewKeeper(ctx context.Context, db *store.DB, now func() time.Time, random io.Reader) (*Keeper, error) {
	k := &Keeper{db: db, now: now, random: random, tokens: map[string]Token{}, lives: map[string]life{}}
	err := db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(k.load, "SELECT id, digest, name, scopes, created_at, expires_at, minted_by FROM tokens")
	})
	if err != nil {
		return nil, fmt.Errorf("reading tokens: %w", err)
	}
	return k, nil
}

func (k *Keeper) load(rows *sql.Rows) error {
	var t Token
	var kept []byte
	var scopes string
	var created int64
	var expires sql.NullInt64
	if err := rows.Scan(&t.ID, &kept, &t.Name, &scopes, &created, &expires, &t.MintedBy); err != nil {
		return err
	}
	if copy(t.digest[:], kept) != len(t.digest) {
		return fmt.Errorf("token %s has a digest of %d bytes", t.ID, len(kept))
	}
	for text := range strings.FieldsSeq(scopes) {
		s, err := ParseScope(text)
		if err != nil {
			return fmt.Errorf("token %s: %w", t.ID, err)
		}
		t.Scopes = append(t.Scopes, s)
	}
	t.Created = time.UnixMilli(created).UTC()
	if expires.Valid {
		t.Expires = time.UnixMilli(expires.Int64).UTC()
	}
	k.tokens[t.ID] = t
	return nil
}

// Mint makes a token, by is the id of the one that it is made with, if any. Its
// text is answered once and never again. The error is ErrTooManyTokens where
// there is no place, and ErrNoToken where the one it is made with has ended.
func (k *Keeper) Mint(ctx context.Context, by, name string, scopes Scopes, expires time.Time) (text string, t Token, err error) {
	text, id, d, err := newToken(k.random)
	if err != nil {
		return "", Token{}, err
	}
	t = Token{ID: id, Name: name, Scopes: slices.Clone(scopes), Created: k.now().UTC().Truncate(time.Millisecond), Expires: expires, MintedBy: by, digest: d}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.tokens[by]; by != "" && !ok {
		return "", Token{}, ErrNoToken
	}
	if len(k.tokens) >= maxTokens {
		return "", Token{}, ErrTooManyTokens
	}
	if err := k.db.Update(ctx, func(tx *store.Tx) error { return insert(tx, t) }); err != nil {
		return "", Token{}, fmt.Errorf("keeping a token: %w", err)
	}
	k.tokens[id] = t
	return text, t, nil
}

func insert(tx *store.Tx, t Token) error {
	texts := make([]string, len(t.Scopes))
	for i, s := range t.Scopes {
		texts[i] = string(s)
	}
	expires := sql.NullInt64{Int64: t.Expires.UnixMilli(), Valid: !t.Expires.IsZero()}
	_, err := tx.Exec("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
		t.ID, t.digest[:], t.Name, strings.Join(texts, " "), t.Created.UnixMilli(), expires, t.MintedBy)
	return err
}

// Revoke ends a token and those that were made with it, or with one of those. by
// is the token that asks for it, empty for the owner. The errors are ErrNoToken
// where there is none, and ErrNotOurs where by is neither it nor above it.
func (k *Keeper) Revoke(ctx context.Context, by, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.tokens[id]; !ok {
		return ErrNoToken
	}
	if by != "" && !slices.Contains(k.family(by), id) {
		return ErrNotOurs
	}
	ended := k.family(id)
	err := k.db.Free(ctx, func(tx *store.Tx) error {
		for _, id := range ended {
			if _, err := tx.Exec("DELETE FROM tokens WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	for _, id := range ended {
		delete(k.tokens, id)
		if l, ok := k.lives[id]; ok {
			l.end()
			delete(k.lives, id)
		}
	}
	return nil
}

// follow calls end when a token is revoked or expires, at once where it was or
// has; leave says that nothing lasts any more.
func (k *Keeper) follow(id string, end func()) (leave func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tokens[id]
	if !ok {
		end()
		return func() {}
	}
	l, ok := k.lives[id]
	if !ok {
		l.ctx, l.end = context.WithCancel(context.Background())
		k.lives[id] = l
	}
	forget := context.AfterFunc(l.ctx, end)
	if t.Expires.IsZero() {
		return func() { forget() }
	}
	timer := time.AfterFunc(t.Expires.Sub(k.now()), end)
	return func() { forget(); timer.Stop() }
}

// family is a token and all that came of it. mu is held.
func (k *Keeper) family(id string) []string {
	all := []string{id}
	for i := 0; i < len(all); i++ {
		for _, t := range k.tokens {
			if t.MintedBy == all[i] {
				all = append(all, t.ID)
			}
		}
	}
	return all
}

// List is all tokens, the oldest first.
func (k *Keeper) List() []Token {
	k.mu.RLock()
	defer k.mu.RUnlock()
	all := make([]Token, 0, len(k.tokens))
	for _, t := range k.tokens {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Token) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// First mints the owner's token where there is none yet, and answers an empty
// text where there is.
func (k *Keeper) First(ctx context.Context) (text string, err error) {
	if len(k.List()) > 0 {
		return "", nil
	}
	text, _, err = k.Mint(ctx, "", "first", Scopes{Everything}, time.Time{})
	return text, err
}

// find is the token of this text.
func (k *Keeper) find(text string) (t Token, ok bool) {
	id, ok := idOf(text)
	if !ok {
		return Token{}, false
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	t, ok = k.tokens[id]
	if !ok || !t.digest.is(text) || (!t.Expires.IsZero() && !k.now().Before(t.Expires)) {
		return Token{}, false
	}
	return t, true
}
