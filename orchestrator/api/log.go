package api

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
)

// witnessedWithin is how long an answer waits for the witnesses.
const witnessedWithin = 20 * time.Second

// maxEntryBody has room for an entry in base64.
const maxEntryBody = 4 * logentry.MaxBytes

var errNoLog = problem.New(http.StatusNotFound, "no-log", "this control plane runs no transparency log: transparency.origin is empty")

func (s *Server) log(a huma.API) {
	const path = "/v1/log"
	huma.Register(a, huma.Operation{OperationID: "show-log", Method: http.MethodGet, Path: path, Summary: "show the transparency log"}, s.showLog)
	huma.Register(a, huma.Operation{OperationID: "add-log-entry", Method: http.MethodPost, Path: path + "/entries", Summary: "add a signed withdrawal or rotation to the transparency log", DefaultStatus: http.StatusCreated, MaxBodyBytes: maxEntryBody}, s.addLogEntry)
	huma.Register(a, huma.Operation{OperationID: "rotate-log-key", Method: http.MethodPost, Path: path + "/rotate", Summary: "draw the transparency log's next key, beside which the last one signs on"}, s.rotateLogKey)
}

func (s *Server) viewLog() *body[adminclient.Log] {
	now := s.Log.Status()
	return &body[adminclient.Log]{Status: http.StatusOK, Body: adminclient.Log{
		Origin: now.Key.Name(), Key: now.Key.String(), Size: now.Size, Witnesses: now.Witnesses, Quorum: now.Quorum,
	}}
}

func (s *Server) showLog(context.Context, *struct{}) (*body[adminclient.Log], error) {
	if s.Log == nil {
		return nil, errNoLog
	}
	return s.viewLog(), nil
}

func (s *Server) rotateLogKey(ctx context.Context, _ *struct{}) (*body[adminclient.Log], error) {
	if s.Log == nil {
		return nil, errNoLog
	}
	if _, err := s.Log.RotateKey(ctx, rand.Reader); err != nil {
		return nil, s.logProblem(err)
	}
	return s.viewLog(), nil
}

// addLogEntry takes what has no other way in: a release comes with its disk.
func (s *Server) addLogEntry(ctx context.Context, in *struct{ Body adminclient.NewLogEntry }) (*body[adminclient.LogEntry], error) {
	if s.Log == nil {
		return nil, errNoLog
	}
	e, err := logentry.Parse(in.Body.Entry)
	if err != nil {
		return nil, s.logProblem(err)
	}
	if e.Body.Kind != logentry.KindWithdrawal && e.Body.Kind != logentry.KindRotation {
		return nil, problem.New(http.StatusUnprocessableEntity, "entry-kind", "an entry of kind "+e.Body.Kind.String()+" is not added by itself")
	}
	index, err := s.logged(ctx, in.Body.Entry)
	if err != nil {
		return nil, err
	}
	if e.Body.Kind == logentry.KindWithdrawal {
		s.takeBack(ctx, e.Body.Withdrawal.Manifest)
	}
	return &body[adminclient.LogEntry]{Status: http.StatusCreated, Body: adminclient.LogEntry{Index: index, Kind: e.Body.Kind.String()}}, nil
}

// logged adds an entry and waits until it can be shown.
func (s *Server) logged(ctx context.Context, entry []byte) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessedWithin)
	defer cancel()
	index, err := s.Log.Add(ctx, entry)
	if err == nil {
		err = s.Log.Witnessed(ctx, index)
	}
	if err != nil {
		return 0, s.logProblem(err)
	}
	return index, nil
}

// logRelease puts a release into the log, where there is one.
func (s *Server) logRelease(ctx context.Context, n NewRelease) error {
	if s.Log == nil {
		return nil
	}
	if len(n.Entry) == 0 {
		return problem.New(http.StatusUnprocessableEntity, "entry-missing",
			"the release comes without its entry for the transparency log (release.entry): sign it again with shed image sign")
	}
	var err error
	for _, key := range s.releaseKeys() {
		if err = release.SignedBy(n.Entry, n.Manifest, key); err == nil {
			break
		}
	}
	if err != nil {
		return s.logProblem(err)
	}
	_, err = s.logged(ctx, n.Entry)
	return err
}

// releaseKeys are the configured key and those that the log has it rotated to.
func (s *Server) releaseKeys() []crypto.PublicKey {
	if s.Log == nil {
		return []crypto.PublicKey{s.ReleaseKey}
	}
	return s.Log.ReleaseKeys()
}

func (s *Server) logProblem(err error) error {
	switch {
	case errors.Is(err, translog.ErrUnwitnessed):
		return problem.New(http.StatusServiceUnavailable, "log-unwitnessed", "the transparency log has it and cannot show it yet: "+err.Error())
	case errors.Is(err, attest.ErrRefused):
		return problem.New(http.StatusForbidden, "entry-refused", err.Error())
	}
	return s.problem(err)
}
