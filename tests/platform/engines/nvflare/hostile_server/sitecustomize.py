"""Makes FLARE's server one that lies: its messages leave out what would make a site check who asks."""

import sys

if any("server_train" in argument for argument in sys.orig_argv):
    from nvflare.private.admin_defs import Message
    from nvflare.private.defs import RequestHeader

    _set = Message.set_header

    def _lying(self: Message, key: str, value: object) -> None:
        if key not in (RequestHeader.REQUIRE_AUTHZ, RequestHeader.ADMIN_COMMAND):
            _set(self, key, value)

    Message.set_header = _lying
