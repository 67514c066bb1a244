"""The shop that the sandbox's visitors walk through: its pages, its buttons and what they send."""

from __future__ import annotations

from collections.abc import Callable

from .steps import Fields, Page, Product, Source, Step, Visit

PRODUCTS = (
    Product("Açaí bowl 🫐", "acai-bowl", "Breakfast", 6.75),
    Product("Green Beans", "green-beans", "Vegetables", 1.79),
    Product("Smørrebrød", "smorrebrod", "Lunch", 8.4),
    Product("抹茶 Latte 🍵", "matcha-latte", "Drinks", 4.95),
    Product("Crème brûlée", "creme-brulee", "Desserts", 5.35),
)
# A number that happens to be whole arrives as a JSON integer, in `_real` variables too.
GIFT_CARD = Product("Gift card 🎁", "gift-card", "Gifts", 25)

_NEWSLETTER = "utm_source=newsletter&utm_medium=email&utm_campaign=spring_sale"
_ADVERTISEMENT = "utm_source=google&utm_medium=cpc&utm_campaign=brand"
SOURCES = (
    *3 * (Source(),),
    *3 * (Source("https://www.google.com/"),),
    *2 * (Source(query=_NEWSLETTER),),
    Source("https://www.google.com/", _ADVERTISEMENT),
    Source("https://recipes.example.org/brunch"),
)

MAIN = "html body div.page main "
APP = "FrameLayout LinearLayout.root ScrollView.content "
BUY = MAIN + "div.product-box div.product-footer button.btn.btn-primary"
TILE = MAIN + "ul.product-list li.product-tile a.product-link"
ORDER = MAIN + "form.checkout button.btn.btn-primary"
SAVE = MAIN + "div.product-box span.save"
HEADING = MAIN + "div.product-box h1.product-name"


def field(form: str, label: str) -> str:
    return MAIN + f'form.{form} div.form-group input[aria-label="{label}"]'


# --- what differs from one visit to the next ---


def load_times(weight: float = 1) -> Callable[[Visit], Fields]:
    """Return what makes the times of a load; a page with more on it has a larger `weight`."""

    def vary(visit: Visit) -> Fields:
        content = int(visit.rng.randrange(300, 1200) * weight * visit.slowness)
        return {
            "LoadDomContentTime": content,
            "LoadFirstPaintTime": content + 110,
            "LoadLargestPaintTime": content + 450,
            "LoadEventTime": content + 620,
        }

    return vary


def slow_input(visit: Visit) -> Fields:
    return {"EventFirstInputDelay": visit.rng.randrange(1, 300)}


def layout_shift(visit: Visit) -> Fields:
    return {"EventCumulativeLayoutShift": round(visit.rng.random() / 2, 4)}


def seen(visit: Visit) -> Fields:
    rendered = visit.rng.randrange(800, 20000)
    return {"EventDuration": rendered, "EventSecondaryDuration": rendered * 3 // 4}


def scrolled(visit: Visit) -> Fields:
    return {"PageMaxScrollDepthPercent": visit.rng.randrange(101)}


def _product_page(visit: Visit) -> Fields:
    product = visit.product
    return {
        "page_category_str": product.category,
        "page_price_real": product.price,
        "page_in_stock_bool": True,
        "page_reviews_int": 12,
        "page_tags_strs": ["new", product.slug],
    }


def product_added(visit: Visit) -> Fields:
    product = visit.product
    return {
        "EventCustomName": "Product Added",
        "evt_product_id_str": product.slug,
        "evt_displayName_str": product.name,
        "evt_price_str": f"{product.price:.2f}",
        "evt_price_raw_real": product.price,
        "evt_quantity_int": visit.rng.randrange(1, 6),
    }


def faulty_product_added(visit: Visit) -> Fields:
    return {
        **product_added(visit),
        "EventVarErrorKind": "UnsupportedType",
        "EventVarFields": "evt_callback",
    }


def order_completed(visit: Visit) -> Fields:
    price = visit.product.price
    order_id = f"ord-{visit.order_number}"
    return {
        "EventCustomName": "Order Completed",
        "evt_order.order_id_str": order_id,
        "evt_order_id_str": f"{order_id}/web",  # another variable, though the names look alike
        "evt_order.total_real": _number(visit.items * price),
        "evt_order.items_real": visit.items,
        "evt_order.plan_str": visit.plan,
        "evt_order.products_strs": [visit.product.name, "Bag"],
        "evt_quantities_ints": [2, 1],
        "evt_prices_reals": [price, 0.1],
        "evt_gift_wrapped_bools": [True, False],
        "evt_deliveries_dates": ["2030-01-02T00:00:00Z", "2030-01-09T00:00:00Z"],
        "evt_ordered_date": "2030-01-01T12:00:00Z",
        "evt_express_bool": visit.rng.random() < 0.5,
    }


def _number(amount: float) -> float:
    """Return the amount in cents' precision; an integer if it is whole, as JavaScript writes it."""
    rounded = round(amount, 2)
    return int(rounded) if rounded == int(rounded) else rounded


# --- the journeys ---

SUBTYPE = "EventSubType"


def arrive(gap: int = 0, weight: float = 1) -> tuple[Step, Step]:
    """Two events of one millisecond, as a page load gives them."""
    return (
        Step("navigate", gap, more={SUBTYPE: "navigate"}, vary=scrolled),
        Step("load", 0, vary=load_times(weight)),
    )


def request(gap: int, method: str, path: str, *statuses: int) -> Step:
    """One status of these, drawn for each visit."""
    fields = {"ReqUrl": f"https://example.com/api/{path}", "ReqMethod": method}
    return Step(
        "request", gap, more=fields, vary=lambda visit: {"ReqStatus": visit.rng.choice(statuses)}
    )


def home(*steps: Step) -> Page:
    return Page("Home", "https://example.com/", 601, steps)


def search(*steps: Step) -> Page:
    return Page("Search", "https://example.com/search?q=brunch&sort=new", 602, steps)


def product(*steps: Step) -> Page:
    return Page("Product", "https://example.com/products/{slug}", 603, steps, vary=_product_page)


def checkout(*steps: Step) -> Page:
    return Page("Checkout", "https://example.com/checkout", 604, steps)


def account(*steps: Step) -> Page:
    return Page("Account", "https://example.com/my-account", 605, steps)


def address(*steps: Step) -> Page:
    return Page("Update address", "https://example.com/update-address", 606, steps)


def screen(view: str, *steps: Step) -> Page:
    return Page("", "", 0, steps, {"AppViewName": view})
