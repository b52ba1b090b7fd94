package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

var subscriberRoutes = []route{
	{"GET", "/v1/subscribers", "Subscriber:listSubscribers", permitted, (*handler).listSubscribers},
	{"GET", "/v1/subscribers/{imsi}", "Subscriber:getSubscriber", permitted, onSIM(http.StatusOK, getSIM)},
	{"POST", "/v1/subscribers/{imsi}/register", "Subscriber:registerSubscriber", permitted, onSIM(http.StatusCreated, register)},
	{"POST", "/v1/subscribers/{imsi}/activate", "Subscriber:activateSubscriber", permitted, onSIM(http.StatusOK, setStatus(manager.SIMActive))},
	{"POST", "/v1/subscribers/{imsi}/deactivate", "Subscriber:deactivateSubscriber", permitted, onSIM(http.StatusOK, setStatus(manager.SIMInactive))},
	{"POST", "/v1/subscribers/{imsi}/suspend", "Subscriber:suspendSubscriber", permitted, onSIM(http.StatusOK, setStatus(manager.SIMSuspended))},
	{"POST", "/v1/subscribers/{imsi}/terminate", "Subscriber:terminateSubscriber", permitted, onSIM(http.StatusOK, setStatus(manager.SIMTerminated))},
	{"POST", "/v1/subscribers/{imsi}/set_to_standby", "Subscriber:setSubscriberToStandby", permitted, onSIM(http.StatusOK, setStatus(manager.SIMStandby))},
	{"POST", "/v1/subscribers/{imsi}/enable_termination", "Subscriber:enableTermination", permitted, onSIM(http.StatusOK, setTermination(true))},
	{"POST", "/v1/subscribers/{imsi}/disable_termination", "Subscriber:disableTermination", permitted, onSIM(http.StatusOK, setTermination(false))},
	{"POST", "/v1/subscribers/{imsi}/delete_session", "Subscriber:deleteSubscriberSession", permitted, onSIM(http.StatusOK, deleteSession)},
	{"POST", "/v1/subscribers/{imsi}/set_expiry_time", "Subscriber:setExpiryTime", permitted, onSIM(http.StatusOK, setExpiry)},
	{"POST", "/v1/subscribers/{imsi}/unset_expiry_time", "Subscriber:unsetExpiryTime", permitted, onSIM(http.StatusOK, unsetExpiry)},
	{"POST", "/v1/subscribers/{imsi}/set_group", "Subscriber:setGroup", permitted, onSIM(http.StatusOK, setGroup)},
	{"POST", "/v1/subscribers/{imsi}/unset_group", "Subscriber:unsetGroup", permitted, onSIM(http.StatusOK, unsetGroup)},
	{"POST", "/v1/subscribers/{imsi}/set_imei_lock", "Subscriber:setImeiLock", permitted, onSIM(http.StatusOK, setIMEILock)},
	{"POST", "/v1/subscribers/{imsi}/unset_imei_lock", "Subscriber:unsetImeiLock", permitted, onSIM(http.StatusOK, unsetIMEILock)},
	{"POST", "/v1/subscribers/{imsi}/update_speed_class", "Subscriber:updateSpeedClass", permitted, onSIM(http.StatusOK, updateSpeedClass)},
	{"PUT", "/v1/subscribers/{imsi}/bundles", "Subscriber:putBundles", permitted, onSIM(http.StatusOK, putBundles)},
	{"PUT", "/v1/subscribers/{imsi}/tags", "Subscriber:putTags", permitted, onSIM(http.StatusOK, putTags)},
	{"DELETE", "/v1/subscribers/{imsi}/tags/{tag_name}", "Subscriber:deleteTag", permitted, (*handler).deleteSIMTag},
	{"GET", "/v1/subscribers/{imsi}/events/sessions", "Subscriber:listSessionEvents", permitted, (*handler).sessionEvents},
	{"POST", "/v1/subscribers/{imsi}/downlink/ping", "Subscriber:subscriberDownlinkPingToUserEquipment", permitted, (*handler).ping},
}
