package toolshed

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
)

const healthPath = "/api/health"

type healthOutput struct {
	Body struct {
		Status string `json:"status" enum:"ok"`
	}
}

func registerHealth(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: healthPath, Summary: "Whether the toolshed serves",
		Tags: []string{"health"}, Security: auth.Public(),
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out, nil
	})
}
