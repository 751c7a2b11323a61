package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

func (s *Server) audit(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "list-results", Method: http.MethodGet, Path: "/v1/results", Summary: "read the chain of results"}, s.listResults)
	huma.Register(a, huma.Operation{OperationID: "show-result", Method: http.MethodGet, Path: "/v1/instances/{id}/result", Summary: "show the newest signed result of an instance's machine as it runs now"}, s.showResult)
}

type resultsInput struct {
	From  uint64 `query:"from" doc:"the first index wanted"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

func (s *Server) listResults(ctx context.Context, in *resultsInput) (*body[adminclient.Results], error) {
	key, err := auditlog.MarshalKey(s.ResultKey)
	if err != nil {
		return nil, s.problem(err)
	}
	out := adminclient.Results{Key: key, Entries: []adminclient.Result{}}
	err = s.Store.View(ctx, func(v store.Reader) error {
		head, err := v.ResultsHead()
		if err != nil {
			return err
		}
		out.Count, out.Hash = head.Count, head.Hash.String()
		found, err := v.Results(in.From, in.Limit)
		for _, r := range found {
			out.Entries = append(out.Entries, viewResult(r))
		}
		return err
	})
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[adminclient.Results]{Status: http.StatusOK, Body: out}, nil
}

func viewResult(r auditlog.Record) adminclient.Result {
	return adminclient.Result{Index: r.Index, AtUS: r.At, Instance: r.Instance, Machine: r.Machine, EAR: r.EAR, Hash: r.Hash.String()}
}

// showResult shows what was made of this boot of the machine and nothing older.
func (s *Server) showResult(ctx context.Context, in *idInput) (*body[adminclient.Result], error) {
	var found auditlog.Record
	err := s.Store.View(ctx, func(v store.Reader) error {
		i, err := v.Instance(orchestrator.InstanceID(in.ID))
		if err != nil {
			return err
		}
		if found, err = v.LastResult(i.ID); errors.Is(err, orchestrator.ErrNotFound) {
			found, err = auditlog.Record{}, nil
		}
		if err == nil && (!i.Enrolment.Judged || found.Machine != string(i.Machine)) {
			err = problem.New(http.StatusNotFound, "not-judged", "the instance's machine has not been judged since it booted")
		}
		return err
	})
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[adminclient.Result]{Status: http.StatusOK, Body: viewResult(found)}, nil
}
