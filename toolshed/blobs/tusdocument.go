package blobs

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
)

// header is one of the protocol's.
func header(name string, required bool, description string) *huma.Param {
	kind := huma.TypeString
	if name == "Upload-Length" || name == "Upload-Offset" {
		kind = huma.TypeInteger
	}
	return &huma.Param{Name: name, In: "header", Required: required, Description: description, Schema: &huma.Schema{Type: kind}}
}

var (
	ofProtocol = header("Tus-Resumable", true, "1.0.0")
	ofUpload   = &huma.Param{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: "what creating answered as the end of Location"}
	ofPart     = []*huma.Param{
		ofProtocol, ofUpload, header("Upload-Offset", true, "how many bytes are there already"),
		header("Upload-Checksum", false, "sha1 or sha256, a space, and the part's sum in Base64"),
	}
)

// documentUploads puts the protocol's routes, which are no typed operations,
// into the OpenAPI document.
func documentUploads(o *huma.OpenAPI) {
	part := &huma.RequestBody{Description: "the bytes from the offset on", Content: map[string]*huma.MediaType{
		offsetStream: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
	shown := o.Components.Schemas.Schema(reflect.TypeFor[shownUpload](), true, "Upload")
	add := func(method, path, id, summary string, parameters []*huma.Param, body *huma.RequestBody, answers map[string]*huma.Response) {
		o.AddOperation(&huma.Operation{
			OperationID: "blobs-" + id, Method: method, Path: path, Tags: []string{"blobs"}, Summary: summary,
			Security: auth.Needs(ScopeWrite), Parameters: parameters, RequestBody: body, Responses: answers,
		})
	}
	says := func(status, text string) map[string]*huma.Response {
		return map[string]*huma.Response{status: {Description: text}}
	}
	const one = uploadsRoot + "/{id}"
	add(http.MethodPost, uploadsRoot, "tus-create", "Begin an upload in parts (tus 1.0.0)", []*huma.Param{
		ofProtocol, header("Upload-Length", true, "how many bytes it will have"),
		header("Upload-Metadata", false, "filename and filetype, each with a space and its value in Base64, with commas between"),
		header("Upload-Checksum", false, "of the first part, where one is sent"),
	}, part, says("201", "Location is where the parts go"))
	add(http.MethodHead, one, "tus-head", "How much of an upload is there", []*huma.Param{ofProtocol, ofUpload}, nil, says("200", "Upload-Offset and Upload-Length; Blob-SHA256 once it is a blob"))
	add(http.MethodPatch, one, "tus-patch", "Send the next part of an upload", ofPart, part, says("204", "Upload-Offset is how much is there; Blob-SHA256 once it is a blob"))
	add(http.MethodDelete, one, "tus-delete", "End an upload", []*huma.Param{ofProtocol, ofUpload}, nil, says("204", "Nothing of it is kept"))
	add(http.MethodPost, one, "tus-override", "Send a part, or end an upload, where a client has no PATCH or DELETE",
		append([]*huma.Param{header("X-HTTP-Method-Override", true, "PATCH or DELETE")}, ofPart...), part, says("204", "As what stands in X-HTTP-Method-Override answers"))
	add(http.MethodGet, one, "upload", "How an upload gets on", []*huma.Param{ofUpload}, nil, map[string]*huma.Response{
		"200": {Description: "The upload", Content: map[string]*huma.MediaType{"application/json": {Schema: shown}}},
	})
	add(http.MethodGet, one+"/events", "upload-events", "Follow an upload", []*huma.Param{ofUpload}, nil, map[string]*huma.Response{
		"200": {Description: "progress, done or ended, each with the upload", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}},
	})
	o.AddOperation(&huma.Operation{
		OperationID: "blobs-tus-options", Method: http.MethodOptions, Path: uploadsRoot, Tags: []string{"blobs"},
		Summary: "What of tus is spoken", Security: auth.Public(), Responses: says("204", "Tus-Version, Tus-Extension, Tus-Checksum-Algorithm and Tus-Max-Size"),
	})
}
