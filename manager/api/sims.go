package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

var simRoutes = []route{
	{"GET", "/v1/sims", "Sim:listSims", permitted, (*handler).listSims},
	{"GET", "/v1/sims/{sim_id}", "Sim:getSim", permitted, onSIM(http.StatusOK, getSIM)},
	{"POST", "/v1/sims/{sim_id}/register", "Sim:registerSim", permitted, onSIM(http.StatusCreated, register)},
	{"POST", "/v1/sims/{sim_id}/activate", "Sim:activateSim", permitted, onSIM(http.StatusOK, setStatus(manager.SIMActive))},
	{"POST", "/v1/sims/{sim_id}/deactivate", "Sim:deactivateSim", permitted, onSIM(http.StatusOK, setStatus(manager.SIMInactive))},
	{"POST", "/v1/sims/{sim_id}/suspend", "Sim:suspendSim", permitted, onSIM(http.StatusOK, setStatus(manager.SIMSuspended))},
	{"POST", "/v1/sims/{sim_id}/terminate", "Sim:terminateSim", permitted, onSIM(http.StatusOK, setStatus(manager.SIMTerminated))},
	{"POST", "/v1/sims/{sim_id}/set_to_standby", "Sim:setSimToStandby", permitted, onSIM(http.StatusOK, setStatus(manager.SIMStandby))},
	{"POST", "/v1/sims/{sim_id}/enable_termination", "Sim:enableSimTermination", permitted, onSIM(http.StatusOK, setTermination(true))},
	{"POST", "/v1/sims/{sim_id}/disable_termination", "Sim:disableSimTermination", permitted, onSIM(http.StatusOK, setTermination(false))},
	{"POST", "/v1/sims/{sim_id}/delete_session", "Sim:deleteSimSession", permitted, onSIM(http.StatusOK, deleteSession)},
	{"POST", "/v1/sims/{sim_id}/set_expiry_time", "Sim:setSimExpiryTime", permitted, onSIM(http.StatusOK, setExpiry)},
	{"POST", "/v1/sims/{sim_id}/unset_expiry_time", "Sim:unsetSimExpiryTime", permitted, onSIM(http.StatusOK, unsetExpiry)},
	{"POST", "/v1/sims/{sim_id}/set_group", "Sim:setSimGroup", permitted, onSIM(http.StatusOK, setGroup)},
	{"POST", "/v1/sims/{sim_id}/unset_group", "Sim:unsetSimGroup", permitted, onSIM(http.StatusOK, unsetGroup)},
	{"POST", "/v1/sims/{sim_id}/set_imei_lock", "Sim:setSimImeiLock", permitted, onSIM(http.StatusOK, setIMEILock)},
	{"POST", "/v1/sims/{sim_id}/unset_imei_lock", "Sim:unsetSimImeiLock", permitted, onSIM(http.StatusOK, unsetIMEILock)},
	{"POST", "/v1/sims/{sim_id}/update_speed_class", "Sim:updateSimSpeedClass", permitted, onSIM(http.StatusOK, updateSpeedClass)},
	{"PUT", "/v1/sims/{sim_id}/tags", "Sim:putTags", permitted, onSIM(http.StatusOK, putTags)},
	{"DELETE", "/v1/sims/{sim_id}/tags/{tag_name}", "Sim:deleteTag", permitted, (*handler).deleteSIMTag},
	{"GET", "/v1/sims/{sim_id}/events/sessions", "Sim:listSimSessionEvents", permitted, (*handler).sessionEvents},
	{"GET", "/v1/sims/{sim_id}/statuses/history", "Sim:listSimStatusHistory", permitted, (*handler).statusHistory},
	{"POST", "/v1/sims/{sim_id}/downlink/ping", "Sim:sendDownlinkPing", permitted, (*handler).ping},
}
