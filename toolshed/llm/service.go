package llm

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Price is what a million tokens cost, in whatever currency the owner counts
// in.
type Price struct {
	Input  float64 `yaml:"input"`
	Output float64 `yaml:"output"`
	// Cached is for tokens of the input that the provider had; Input's where it
	// is zero.
	Cached float64 `yaml:"cached"`
}

// Cost is that of one answer, in millionths.
func (p Price) Cost(u Usage) int64 {
	cached := p.Cached
	if cached == 0 {
		cached = p.Input
	}
	return int64(math.Round(float64(u.Input-u.Cached)*p.Input + float64(u.Cached)*cached + float64(u.Output)*p.Output))
}

// Service answers chats, keeps account of them, and keeps answers for those who
// ask for that.
type Service struct {
	router *Router
	// prices are by PROVIDER/MODEL.
	prices map[string]Price
	db     *store.DB
	now    func() time.Time
}

var _ mount.Reporter = (*Service)(nil)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "llm", SecureDelete: true, Migrations: []store.Migration{store.Statements(`
	CREATE TABLE spent (
		day    TEXT NOT NULL,
		target TEXT NOT NULL,
		calls  INTEGER NOT NULL,
		input  INTEGER NOT NULL,
		output INTEGER NOT NULL,
		cost   INTEGER NOT NULL,
		PRIMARY KEY (day, target)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE answers (
		request BLOB PRIMARY KEY,
		expires INTEGER NOT NULL,
		answer  BLOB NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX answers_expire ON answers (expires)`)}}

// maxKept bounds the answers that are kept.
const maxKept = 10_000

// New uses a database with this package's Schema.
func New(r *Router, prices map[string]Price, db *store.DB, now func() time.Time) *Service {
	return &Service{router: r, prices: prices, db: db, now: now}
}

// Said is an answer with where it is from and what it cost.
type Said struct {
	Answer
	Target Target
	// Cost is in millionths, zero where no price is known.
	Cost int64
	// Kept says that nobody was asked: the answer is an earlier one.
	Kept bool
}

// Chat answers a request, by an earlier answer where keep is over zero and
// there is one. emit gets the parts as they come; nil is for those who wait for
// the whole. Errors are Request.Check's, Router.Chat's and Request.Holds's.
func (s *Service) Chat(ctx context.Context, r Request, keep time.Duration, emit func(Event) error) (*Said, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if keep > 0 {
		if said, err := s.earlier(ctx, r); err != nil || said != nil {
			return said, replay(said, err, emit)
		}
	}
	said := &Said{}
	target, err := s.router.Chat(ctx, r, func(e Event) error {
		if err := said.add(e); err != nil || emit == nil {
			return err
		}
		return emit(e)
	})
	said.Target = target
	if spent := s.account(ctx, said); spent != nil {
		err = errors.Join(err, spent)
	}
	if err != nil {
		return nil, err
	}
	if err := r.Holds(&said.Answer); err != nil {
		var fault *upstream.Error
		if errors.As(err, &fault) {
			fault.Name = target.Provider
		}
		return nil, err
	}
	if keep > 0 {
		err = s.keep(ctx, r, said, keep)
	}
	return said, err
}

// replay passes an earlier answer on as one part of each kind.
func replay(said *Said, err error, emit func(Event) error) error {
	if err != nil || emit == nil {
		return err
	}
	events := []Event{{Reasoning: said.Reasoning}, {Text: said.Text}}
	for i, c := range said.ToolCalls {
		events = append(events, Event{Tool: &ToolPart{Index: i, ID: c.ID, Name: c.Name, Arguments: c.Arguments}})
	}
	events = append(events, Event{Usage: &said.Usage}, Event{Finish: said.Finish})
	for _, e := range events {
		if e == (Event{}) {
			continue
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// account counts what was spent; an answer that broke off cost something too.
func (s *Service) account(ctx context.Context, said *Said) error {
	if said.Usage == (Usage{}) && said.Text == "" && len(said.ToolCalls) == 0 {
		return nil
	}
	said.Cost = s.prices[said.Target.String()].Cost(said.Usage)
	day := s.now().UTC().Format(time.DateOnly)
	err := s.db.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Exec(`
			INSERT INTO spent VALUES (?, ?, 1, ?, ?, ?)
			ON CONFLICT DO UPDATE SET calls = calls + 1, input = input + excluded.input,
				output = output + excluded.output, cost = cost + excluded.cost`,
			day, said.Target.String(), said.Usage.Input, said.Usage.Output, said.Cost)
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping account: %w", err)
	}
	return nil
}

// key names a request by all that makes its answer.
func key(r Request) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("naming the request: %w", err)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

// earlier is an answer that is kept for the same request; nil for none.
func (s *Service) earlier(ctx context.Context, r Request) (*Said, error) {
	k, err := key(r)
	if err != nil {
		return nil, err
	}
	var b []byte
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT answer FROM answers WHERE request = ? AND expires > ?", k, s.now().UnixMilli()).Scan(&b)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for an earlier answer: %w", err)
	}
	said := &Said{}
	if err := json.Unmarshal(b, said); err != nil {
		return nil, fmt.Errorf("reading an earlier answer: %w", err)
	}
	said.Kept, said.Cost = true, 0
	return said, nil
}

func (s *Service) keep(ctx context.Context, r Request, said *Said, d time.Duration) error {
	k, err := key(r)
	if err != nil {
		return err
	}
	b, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		now := s.now()
		if _, err := tx.Exec("DELETE FROM answers WHERE expires <= ?", now.UnixMilli()); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM answers WHERE request IN (SELECT request FROM answers ORDER BY expires LIMIT max(0, (SELECT count(*) FROM answers) - ?))", maxKept-1)
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", k, now.Add(d).UnixMilli(), b)
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping an answer: %w", err)
	}
	return nil
}

// Spent is what one model cost on one day.
type Spent struct {
	Day    string `json:"day"`
	Model  string `json:"model" doc:"PROVIDER/MODEL"`
	Calls  int64  `json:"calls"`
	Input  int64  `json:"input_tokens"`
	Output int64  `json:"output_tokens"`
	// Cost is in units of the price list.
	Cost float64 `json:"cost" doc:"in the currency of the configured prices; 0 where none is configured"`
}

// Accounts lists what was spent from a day on, the latest first.
func (s *Service) Accounts(ctx context.Context, from time.Time) (all []Spent, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var one Spent
			var cost int64
			if err := rows.Scan(&one.Day, &one.Model, &one.Calls, &one.Input, &one.Output, &cost); err != nil {
				return err
			}
			one.Cost = float64(cost) / 1e6
			all = append(all, one)
			return nil
		}, "SELECT * FROM spent WHERE day >= ? ORDER BY day DESC, target", from.UTC().Format(time.DateOnly))
	})
	if err != nil {
		return nil, fmt.Errorf("reading the accounts: %w", err)
	}
	return all, nil
}

// Usage says what is kept.
func (s *Service) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "answers kept"}
	err := s.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM answers").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting answers: %w", err)
	}
	u.Bytes, err = s.db.Bytes()
	return u, err
}
