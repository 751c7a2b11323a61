package controlplane

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
)

// logDir is the transparency log's, in the control plane's directory, and
// logKeyFile the file of its keys.
const (
	logDir     = "log"
	logKeyFile = logDir + "/" + translog.KeyFile
)

// logKeyKey is the meta key that says that the log's key was drawn.
const logKeyKey = "log_key"

// logInterval is how soon a new entry gets a checkpoint.
const logInterval = 250 * time.Millisecond

// openLog opens the transparency log where one is configured. Its key is drawn
// where there was never one: clients know the one that there was.
func (p *ControlPlane) openLog(ctx context.Context) error {
	c := p.Config
	const key = "transparency.origin"
	if c.LogOrigin == "" {
		return nil
	}
	dir := filepath.Join(p.Dir, logDir)
	path := filepath.Join(dir, translog.KeyFile)
	// The file comes before the mark: a stop between them leaves no mark for a
	// key that never was.
	_, err := p.meta(ctx, logKeyKey, func() (string, error) {
		if exists(path) {
			return "drawn", nil
		}
		return "drawn", translog.DrawKey(dir, c.LogOrigin, p.Random)
	})
	if err != nil {
		return err
	}
	if !exists(path) {
		return &LostError{Dir: p.Dir, File: logKeyFile, Beside: []string{sqlite.DatabaseFile}}
	}
	keys, err := translog.LoadKeys(dir, c.LogOrigin)
	if err != nil {
		return c.Errorf(key, err)
	}
	o := translog.Options{
		Dir: dir, Keys: keys, Quorum: c.LogQuorum, ReleaseKey: p.key, AuditKey: p.resultKey.Public(),
		Interval: logInterval, Refresh: c.LogRefresh, Logger: p.Logger.Named("transparency"),
	}
	for _, w := range c.LogWitnesses {
		o.Witnesses = append(o.Witnesses, translog.Remote{URL: w.URL, Key: w.Key})
	}
	if p.log, err = translog.Open(ctx, o); err != nil {
		return c.Errorf(key, err)
	}
	p.Logger.Info("transparency log runs", zap.String("key", p.log.Key().String()), zap.Int("witnesses", len(o.Witnesses)), zap.Int("quorum", o.Quorum))
	return nil
}

// proof is what a machine of a release shows of the log; nil where there is no
// log, or none of it to show.
func (p *ControlPlane) proof(ctx context.Context, digest attest.ReleaseDigest) ([]byte, error) {
	if p.log == nil {
		return nil, nil
	}
	document, err := p.log.Document(ctx, digest)
	if errors.Is(err, orchestrator.ErrNotFound) {
		return nil, nil
	}
	return document, err
}

// withdrawn says that the log has the withdrawal of a release.
func (p *ControlPlane) withdrawn(digest attest.ReleaseDigest) bool {
	return p.log != nil && p.log.Withdrawn(digest)
}
