package e2b

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

const maxPage = 100 // sandboxes

// selection is what a list is asked for.
type selection struct {
	metadata  map[string]string
	states    []fleet.State
	ascending bool
	since     time.Time
	template  string
	limit     int
	after     place
}

func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	s, err := selectionOf(r)
	if err != nil {
		return err
	}
	all, err := a.all(server.CallerOf(r).Key)
	if err != nil {
		return err
	}
	page, next := s.page(all)
	if next != "" {
		w.Header().Set("X-Next-Token", next)
	}
	running := 0
	for _, info := range all {
		if info.State == fleet.Running {
			running++
		}
	}
	w.Header().Set("X-Total-Running", strconv.Itoa(running))
	tellList(w, page)
	return nil
}

// listOld has all that runs on one page.
func (a *API) listOld(w http.ResponseWriter, r *http.Request) error {
	metadata, err := metadataFilter(r.URL.Query().Get("metadata"))
	if err != nil {
		return err
	}
	all, err := a.all(server.CallerOf(r).Key)
	if err != nil {
		return err
	}
	page, _ := selection{metadata: metadata, states: []fleet.State{fleet.Running}, limit: len(all)}.page(all)
	tellList(w, page)
	return nil
}

func tellList(w http.ResponseWriter, page []fleet.Info) {
	told := make([]listed, 0, len(page))
	for _, info := range page {
		told = append(told, listedOf(info))
	}
	server.WriteJSON(w, http.StatusOK, told)
}

func selectionOf(r *http.Request) (s selection, err error) {
	query := r.URL.Query()
	if s.metadata, err = metadataFilter(query.Get("metadata")); err != nil {
		return s, err
	}
	if s.states, err = statesOf(query.Get("state")); err != nil {
		return s, err
	}
	switch order := query.Get("order"); order {
	case "asc", "desc", "":
		s.ascending = order == "asc"
	default:
		return s, api.Invalid("order", "%.64q is neither asc nor desc", order)
	}
	if given := query.Get("startedAfter"); given != "" {
		if s.since, err = time.Parse(time.RFC3339, given); err != nil {
			return s, api.Invalid("startedAfter", "%.64q is no time of RFC 3339 with an offset", given)
		}
	}
	limit, err := server.QueryInt(r, "limit", maxPage, 1, maxPage)
	if err != nil {
		return s, err
	}
	s.template, s.limit = query.Get("template"), int(limit)
	s.after, err = parsePlace(query.Get("nextToken"))
	return s, err
}

func statesOf(given string) ([]fleet.State, error) {
	if given == "" {
		return []fleet.State{fleet.Running, fleet.Paused}, nil
	}
	var states []fleet.State
	for name := range strings.SplitSeq(given, ",") {
		if name != "running" && name != "paused" {
			return nil, api.Invalid("state", "%.64q is neither running nor paused", name)
		}
		states = append(states, fleet.State(name))
	}
	return states, nil
}

// metadataFilter reads what clients encode three times: the query, all of it as one value, and each key and value.
func metadataFilter(given string) (map[string]string, error) {
	pairs, err := url.PathUnescape(given)
	if err != nil {
		return nil, api.Invalid("metadata", "%v", err)
	}
	filter := map[string]string{}
	for pair := range strings.SplitSeq(pairs, "&") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		name, err := url.PathUnescape(key)
		text, err2 := url.PathUnescape(value)
		if !ok || err != nil || err2 != nil {
			return nil, api.Invalid("metadata", "%.200q is no KEY=VALUE", pair)
		}
		filter[name] = text
	}
	return filter, nil
}

// page returns those of all that are selected, and the token of the next page, if there is one.
func (s selection) page(all []fleet.Info) (page []fleet.Info, next string) {
	found := slices.DeleteFunc(slices.Clone(all), func(info fleet.Info) bool { return !s.selects(info) })
	slices.SortFunc(found, func(x, y fleet.Info) int { return s.compare(placeOf(x), placeOf(y)) })
	if len(found) <= s.limit {
		return found, ""
	}
	return found[:s.limit], placeOf(found[s.limit-1]).String()
}

func (s selection) selects(info fleet.Info) bool {
	for key, value := range s.metadata {
		if has, ok := info.Metadata[key]; !ok || has != value {
			return false
		}
	}
	return slices.Contains(s.states, info.State) && !info.CreatedAt.Before(s.since) &&
		(s.template == "" || s.template == info.Template || s.template == templateOf(info)) &&
		(s.after == place{} || s.compare(placeOf(info), s.after) > 0)
}

func (s selection) compare(p, q place) int {
	order := p.at.Compare(q.at)
	if order == 0 {
		order = strings.Compare(p.id, q.id)
	}
	if !s.ascending {
		order = -order
	}
	return order
}

// place is where a sandbox is in a list.
type place struct {
	at time.Time
	id string
}

func placeOf(info fleet.Info) place { return place{info.CreatedAt, info.ID} }

func (p place) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.at.Format(time.RFC3339Nano) + "__" + p.id))
}

func parsePlace(token string) (place, error) {
	if token == "" {
		return place{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(token, "="))
	at, id, ok := strings.Cut(string(text), "__")
	when, err2 := time.Parse(time.RFC3339Nano, at)
	if err != nil || err2 != nil || !ok {
		return place{}, api.Invalid("nextToken", "is not one of this server's")
	}
	return place{when, id}, nil
}
