"""What visitors do in the sandbox: journeys through the shop, step by step.

Written down rather than drawn at random, so that sessions make sense to a reader and even a
small sandbox holds every kind of event and every documented field.
"""

from __future__ import annotations

from .shop import (
    APP,
    BUY,
    GIFT_CARD,
    HEADING,
    MAIN,
    ORDER,
    SAVE,
    SUBTYPE,
    TILE,
    account,
    address,
    arrive,
    checkout,
    faulty_product_added,
    field,
    home,
    layout_shift,
    load_times,
    order_completed,
    product,
    product_added,
    request,
    screen,
    scrolled,
    search,
    seen,
    slow_input,
)
from .steps import Journey, Page, Step

STEPS = 10  # of each journey but the example

EXAMPLE = Journey(
    "web",
    (
        account(
            Step(
                "click", 0, "Update Address",
                MAIN + 'section.address a.btn.btn-link[href="/update-address"]',
            ),
        ),
        address(
            Step("click", 2400, "Street address", field("address-form", "Street address")),
            Step("change", 7300, "1339 Chestnut Street", field("address-form", "Street address")),
            Step(
                "click", 1900, "Save Changes",
                MAIN + 'form.address-form button.btn.btn-primary[type="submit"]',
            ),
        ),
    ),
)  # fmt: skip

JOURNEYS = (
    Journey(
        "web",
        (
            home(
                *arrive(),
                Step("first_input_delay", 900, vary=slow_input),
                Step("seen", 400, "Fresh today", MAIN + "div.banner", {SUBTYPE: "rendered"}, seen),
                Step("click", 3100, "{name}", TILE),
            ),
            product(
                *arrive(700),
                Step("seen", 300, "{name}", HEADING, {SUBTYPE: "visible"}, seen),
                Step("highlight", 6100, "{name}", HEADING),
                Step("copy", 800, "{name}", HEADING),
            ),
        ),
        from_outside=True,
    ),
    Journey(
        "web",
        (
            product(
                *arrive(),
                Step("click", 5200, "Add to cart", BUY),
                Step("custom_error", 4, vary=faulty_product_added),
                Step("custom", 0, vary=product_added),
            ),
            checkout(
                Step("navigate", 2600, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("change", 9400, "•••• 4242", field("checkout", "Card number")),
                Step("click", 2100, "Place order ✓", ORDER),
                request(90, "POST", "orders", 201),
                Step("custom", 350, vary=order_completed),
            ),
        ),
        from_outside=True,
    ),
    Journey(
        "web",
        (
            home(
                Step("pageview", 0),
                Step("uservar", 40),
                Step("change", 4000, "brunch", field("search", "Search")),
            ),
            search(
                *arrive(600, weight=2),
                request(120, "GET", "search?q=brunch", 200, 200, 200, 504),
                Step("cumulative_layout_shift", 700, vary=layout_shift),
                Step("click", 5200, "{name}", TILE),
            ),
            product(
                Step("navigate", 500, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("seen_error", 60, "{name}", HEADING, {"EventVarErrorKind": "TooLong"}),
            ),
        ),
        from_outside=True,
    ),
    Journey(
        "web",
        (
            checkout(
                Step("navigate", 0, more={SUBTYPE: "reload"}, vary=scrolled),
                Step(
                    "click", 2800, "Place order ✓", ORDER,
                    {"EventModFrustrated": 1, "EventModError": 2},
                ),
                Step(
                    "console_message", 3, "coupon service said 503: naïve retry 🙈",
                    more={SUBTYPE: "error"},
                ),
                Step("click", 420, "Place order ✓", ORDER, {"EventModFrustrated": 2}),
                Step(
                    "click", 230, "Place order ✓", ORDER,
                    {"EventModFrustrated": 3, "EventModError": 3},
                ),
                Step("click_error", 2, "Place order ✓", ORDER),
                Step(
                    "exception", 2, "TypeError: cart.total is undefined",
                    more={
                        SUBTYPE: "uncaught",
                        "EventWebSourceFileUrl": "https://example.com/static/checkout.js",
                    },
                ),
                Step("click", 900, "", MAIN + "div.row div.summary", {"EventModDead": 1}),
                Step("thrash", 1500),
                Step("abandon", 8000, target=MAIN + "form.checkout"),
            ),
        ),
        known=True,  # so that there is an answer to "who rage-clicks, by plan?"
    ),
    Journey(
        "app",
        (
            screen(
                "Search",
                Step("navigate", 0, more={SUBTYPE: "navigate"}),
                Step("click", 1900, "Search", APP + "EditText.search-box"),
                Step("keyboard_open", 30),
                Step("change", 5200, "crème brûlée 🍮", APP + "EditText.search-box"),
                Step("keyboard_close", 200),
            ),
            screen(
                "Product",
                Step("navigate", 800, more={SUBTYPE: "navigate"}),
                Step("pinch_gesture", 2500, more={SUBTYPE: "pinch_scale_in"}),
                Step("pinch_gesture", 1200, more={SUBTYPE: "pinch_scale_out"}),
                Step("click", 2200, "♥", APP + "ImageButton.favourite"),
                Step("backgrounded", 6000),
            ),
        ),
    ),
    Journey(
        "web",
        (
            account(
                *arrive(),
                Step("click", 4200, "Orders", MAIN + 'nav.account a[href="/my-account/orders"]'),
                request(60, "GET", "orders?page=1", 200, 200, 200, 200, 503),
                Step("click", 3500, "Help", MAIN + 'nav.account a[href="/help"]'),
            ),
            Page(
                "Help", "https://example.com/help", 607,
                (
                    Step("navigate", 500, more={SUBTYPE: "navigate"}, vary=scrolled),
                    Step("paste", 5100, target=field("contact", "Your question")),
                    Step("change", 900, "Où est ma commande ?", field("contact", "Your question")),
                    Step("click", 2000, "Send", MAIN + "form.contact button.btn.btn-primary"),
                    request(80, "POST", "questions", 202, 202, 500),
                ),
            ),
        ),
    ),
    Journey(
        "app",
        (
            screen(
                "Gift card",
                Step("navigate", 0, more={SUBTYPE: "navigate"}),
                Step("seen", 200, "{name}", APP + "TextView.title", {SUBTYPE: "rendered"}, seen),
                Step("click", 3000, "Add to basket", APP + "Button.add"),
                Step("custom", 0, vary=product_added),
            ),
            screen(
                "Basket",
                Step("navigate", 900, more={SUBTYPE: "navigate"}),
                Step("click", 3800, "Pay", APP + "Button.pay"),
                request(70, "POST", "orders", 201),
                Step("custom", 450, vary=order_completed),
                Step("click", 2600, "Done", APP + "Button.done"),
                Step("backgrounded", 4000),
            ),
        ),
        GIFT_CARD,
    ),
    Journey(
        "web",
        (
            search(
                Step("pageview", 0),
                Step(
                    "change", 3800, "' OR 1=1 --", field("search", "Search"),
                    {"EventModSuspicious": 1},
                ),
                request(90, "GET", "search?q=%27%20OR%201%3D1", 400),
                Step("seen", 200, "No results", MAIN + "p.empty", {SUBTYPE: "rendered"}, seen),
                Step("click", 3000, "Home", MAIN + 'nav.top a[href="/"]'),
            ),
            home(
                Step("navigate", 500, more={SUBTYPE: "back_forward"}, vary=scrolled),
                Step("load", 0, vary=load_times()),
                Step("click", 2500, "{name}", TILE),
            ),
            product(
                Step("navigate", 400, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("click", 3700, "Reviews (12)", MAIN + "ul.tabs li.tab a"),
            ),
        ),
    ),
    Journey(
        "app",
        (
            screen(
                "Home",
                Step("navigate", 0, more={SUBTYPE: "navigate"}),
                Step("click", 2400, "Offers", APP + "Button.offers"),
                Step("seen", 300, "-20 %", APP + "ImageView.offer", {SUBTYPE: "visible"}, seen),
                Step("click", 2000, "Map", APP + "Button.map"),
            ),
            screen(
                "Map",
                Step("navigate", 700, more={SUBTYPE: "navigate"}),
                Step("pinch_gesture", 1800, more={SUBTYPE: "pinch_scale_in"}),
                Step("low_memory", 2500),
                Step("click", 1200, "", APP + "MapView.map", {"EventModDead": 1}),
                Step(
                    "exception", 300, "java.lang.OutOfMemoryError: tile cache",
                    more={SUBTYPE: "uncaught", "EventMobileSourceFile": "TileCache.kt"},
                ),
                Step("crashed", 0),
            ),
        ),
    ),
    Journey(
        "web",
        (
            product(
                *arrive(),
                Step("cumulative_layout_shift", 500, vary=layout_shift),
                Step("click", 2900, "Add to cart", BUY),
                Step("custom", 5, vary=product_added),
                Step("click", 2200, "Checkout", MAIN + 'a.btn[href="/checkout"]'),
            ),
            checkout(
                Step("navigate", 600, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("console_message", 300, "analytics: queue is full", more={SUBTYPE: "error"}),
                Step("change", 7000, "Zoë", field("checkout", "First name")),
                Step("abandon", 9000, target=MAIN + "form.checkout"),
            ),
        ),
        from_outside=True,
    ),
    Journey(
        "web",
        (
            product(
                *arrive(),
                Step(
                    "click", 3400, "♥ Save for later", SAVE,
                    {"EventModFrustrated": 1, "EventModDead": 1},
                ),
                Step(
                    "click", 350, "♥ Save for later", SAVE,
                    {"EventModFrustrated": 2, "EventModDead": 1},
                ),
                Step(
                    "click", 280, "♥ Save for later", SAVE,
                    {"EventModFrustrated": 3, "EventModDead": 1},
                ),
                Step("click", 4200, "Allergens", MAIN + "ul.tabs li.tab span", {"EventModDead": 1}),
            ),
            account(
                Step("navigate", 900, more={SUBTYPE: "navigate"}, vary=scrolled),
                request(60, "GET", "favourites", 500),
                Step("console_message", 4, "favourites: HTTP 500", more={SUBTYPE: "error"}),
                Step("click", 3000, "Orders", MAIN + 'nav.account a[href="/my-account/orders"]'),
            ),
        ),
        from_outside=True,
    ),
    Journey(
        "web",
        (
            home(*arrive(), Step("click", 4100, "{name}", TILE)),
            product(
                Step("navigate", 500, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("click", 3900, "Add to cart", BUY),
                Step("custom", 4, vary=product_added),
            ),
            checkout(
                Step("navigate", 700, more={SUBTYPE: "navigate"}, vary=scrolled),
                Step("click", 5200, "Place order ✓", ORDER),
                request(110, "POST", "orders", 201),
                Step("custom", 300, vary=order_completed),
            ),
        ),
        from_outside=True,
    ),
)  # fmt: skip
