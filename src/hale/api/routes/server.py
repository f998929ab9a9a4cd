"""What belongs to the server itself, and what Gradient's clients ask besides deployments."""

import os

from fastapi import APIRouter

import hale
from hale.api import models
from hale.api.context import InContext
from hale.api.views import OWNER
from hale.clock import iso

router = APIRouter()


@router.get("/health", tags=["server"])
async def health() -> str:
    """`"HEALTHY"` for as long as the API answers; wants no token."""
    return "HEALTHY"


@router.get("/server", tags=["server"])
async def server(context: InContext) -> models.Server:
    settings = context.settings
    return models.Server(
        version=hale.__version__,
        pid=os.getpid(),
        data=str(settings.data),
        gateway=str(settings.gateway),
        domain=settings.domain,
        engine=settings.engine,
    )


@router.post("/down", status_code=202, tags=["server"])
async def down(context: InContext) -> models.Accepted:
    """Stop every replica, the gateway and the daemon; the next start brings the deployments back."""
    context.down()
    return models.Accepted(accepted=True)


@router.get("/auth/session", tags=["gradient"])
async def session(context: InContext) -> models.JsonObject:
    """The one user and the one team that hale has, in the words of Gradient's schema."""
    since = iso(context.clock.epoch)
    team = {"name": OWNER, "id": OWNER, "namespace": OWNER, "isUserTeam": True, "dtCreated": since}
    return {
        "user": {
            "id": OWNER,
            "analyticsId": 0,
            "firstName": None,
            "lastName": None,
            "email": "hale@localhost",
            "dtCreated": since,
            "dtConfirmed": since,
            "teamMemberships": [{"team": team, "isOwner": True, "isAdmin": True}],
            "isPhoneVerified": False,
            "isPasswordAuthEnabled": False,
            "isQrCodeBasedMfaEnabled": False,
            "isQrCodeBasedMfaConfirmed": False,
            "metadata": {},
        },
        "team": {"id": OWNER, "analyticsId": 0, "namespace": OWNER, "isPrivate": True, "maxMachines": 1},
    }


@router.get("/billing/account-standing", tags=["gradient"])
async def account_standing() -> models.Standing:
    """Always good: nobody is billed."""
    return models.Standing()


@router.get("/machine-availability", tags=["gradient"])
async def machine_availability() -> models.Availability:
    """This machine is every machine type."""
    return models.Availability(available=True)
