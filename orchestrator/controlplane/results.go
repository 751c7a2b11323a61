package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// resultKeyFile holds the key that signs verdicts and the heads of their chain.
const resultKeyFile = "ear.key"

// resultKeyKey is the meta key of that key's id, loggedKey that of how many
// results the last head covers that was put into the log.
const (
	resultKeyKey = "result_key"
	loggedKey    = "results_logged"
)

// readResultKey reads the key that signs verdicts, drawing it where there was
// never one: the verdicts that there are would be another's.
func (p *ControlPlane) readResultKey(ctx context.Context) error {
	path := filepath.Join(p.Dir, resultKeyFile)
	known := ""
	err := p.store.View(ctx, func(v store.Reader) (err error) {
		known, err = v.Meta(resultKeyKey)
		return err
	})
	if err != nil && !errors.Is(err, orchestrator.ErrNotFound) {
		return err
	}
	if known != "" && !exists(path) {
		return &LostError{Dir: p.Dir, File: resultKeyFile, Beside: []string{sqlite.DatabaseFile}}
	}
	if p.resultKey, err = enrol.LoadKey(path, "the key that signs verdicts", p.Random); err != nil {
		return err
	}
	id, err := ear.KeyID(p.resultKey.Public())
	switch {
	case err != nil:
		return err
	case known == "":
		return p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(resultKeyKey, id) })
	case known != id:
		return fmt.Errorf("%s holds another key than the one that signed the verdicts there are", path)
	}
	return nil
}

// headWithin is how long one head may take into the log.
const headWithin = time.Minute

// publishHeads puts the head of the chain of results into the transparency log,
// at the start and every so often, where there are results that no head there
// covers. Errors are told and tried again.
func (p *ControlPlane) publishHeads(ctx context.Context) error {
	ticker := time.NewTicker(p.Config.AuditEvery)
	defer ticker.Stop()
	for {
		if err := p.publishHead(ctx); err != nil && ctx.Err() == nil {
			p.Logger.Error("putting the head of the results into the transparency log", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p *ControlPlane) publishHead(ctx context.Context) error {
	head, logged, err := p.heads(ctx)
	if err != nil || head.Count == logged {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, headWithin)
	defer cancel()
	record, err := p.signHead(head)
	if err != nil {
		return err
	}
	index, err := p.log.Add(ctx, record)
	if err != nil {
		return err
	}
	p.Logger.Info("results logged", zap.Uint64("count", head.Count), zap.Int64("index", index))
	// A stop before this has the same head stand in the log twice.
	return p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(loggedKey, strconv.FormatUint(head.Count, 10)) })
}

// heads are the end of the chain, and how many entries a head in the log covers.
func (p *ControlPlane) heads(ctx context.Context) (head auditlog.Head, logged uint64, err error) {
	return head, logged, p.store.View(ctx, func(v store.Reader) error {
		if head, err = v.ResultsHead(); err != nil {
			return err
		}
		text, err := v.Meta(loggedKey)
		if errors.Is(err, orchestrator.ErrNotFound) {
			return nil
		}
		if err == nil {
			logged, err = strconv.ParseUint(text, 10, 64)
		}
		return err
	})
}

func (p *ControlPlane) signHead(h auditlog.Head) ([]byte, error) {
	der, err := auditlog.MarshalKey(p.resultKey.Public())
	if err != nil {
		return nil, err
	}
	body := logentry.Body{Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: h.Hash, Count: h.Count}}
	e, err := logentry.Sign(body, der, func(message []byte) ([]byte, error) {
		digest := sha256.Sum256(message)
		return p.resultKey.Sign(rand.Reader, digest[:], nil)
	})
	if err != nil {
		return nil, err
	}
	return e.Encode()
}
