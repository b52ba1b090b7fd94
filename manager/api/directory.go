package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// attachmentWait bounds how long the directory may be waited for.
const attachmentWait = 10 * time.Second

var directoryRoutes = []route{
	{"GET", "/v1/simreach/directory/{imsi}", "Simreach:getDirectoryEntry", permitted, (*handler).attachment},
}

// Attachment is the answer of GET /v1/simreach/directory/{imsi}: where the device
// is attached now.
type Attachment struct {
	IMSI     string `json:"imsi"`
	Attached bool   `json:"attached"`
	UPF      string `json:"upf,omitempty"`
	Address  string `json:"address,omitempty"`
}

// AwaitAttachment asks where a device is, and waits up to ten seconds for it to be
// attached (or, with attached false, detached). The answer may be that it is not.
func (c Client) AwaitAttachment(ctx context.Context, imsi string, attached bool) (Attachment, error) {
	var a Attachment
	path := "/v1/simreach/directory/" + url.PathEscape(imsi) + "?until_attached=" + strconv.FormatBool(attached)
	_, err := c.do(ctx, http.MethodGet, path, nil, &a)
	return a, err
}

func (h *handler) attachment(r *request) (int, any, error) {
	imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
	if err != nil {
		return 0, nil, manager.NewError(manager.CodeBadIMSI)
	}
	wait := time.Duration(0)
	var until bool
	if q := r.URL.Query(); q.Has("until_attached") {
		if until, err = strconv.ParseBool(q.Get("until_attached")); err != nil {
			return 0, nil, manager.NewError(manager.CodeBadQuery, "until_attached")
		}
		wait = attachmentWait
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-h.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	at, ok, err := h.manager.AwaitAttachment(ctx, r.principal.OperatorID, imsi, until)
	if err != nil {
		return 0, nil, err
	}
	out := Attachment{IMSI: string(imsi), Attached: ok}
	if ok {
		out.UPF, out.Address = at.UPF, at.Address.String()
	}
	return http.StatusOK, out, nil
}
